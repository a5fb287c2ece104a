"""Why a bronze row may not become silver. A rule is a function of the columns, with a reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from pyspark.sql import Column
from pyspark.sql import functions as F

from recsys_lib.clean.facts import numbers
from recsys_lib.clean.statistics import NUMBERS
from recsys_lib.errors import SettingsError
from recsys_lib.mapping import RETURN, Mapping
from recsys_lib.settings import CleanSettings
from recsys_lib.types import LONGEST_ID

DUPLICATE = "duplicate"
DUPLICATE_REASON = "the same event was already accepted"
NEAR_DUPLICATE = "near_duplicate"
# Without these a row cannot be placed, or one row harms all others: they cannot be switched off.
ESSENTIAL = (
    "unreadable",
    "damaged_file",
    "missing_user",
    "missing_item",
    "long_id",
    "bad_time",
    DUPLICATE,
)


@dataclass(frozen=True)
class Rule:
    """`broken()` is true for a row that the rule turns away; null counts as false."""

    name: str
    reason: str
    broken: Callable[[], Column]


def rules(mapping: Mapping, settings: CleanSettings) -> list[Rule]:
    """The rules that apply, first the most basic: a row is turned away by the first it breaks.

    Raises SettingsError where `clean.off` names a rule that does not exist or is essential.
    """
    every = [
        *_basic(mapping, settings),
        *_returns(mapping),
        *_rejects(mapping),
        *_numbers(settings),
        *_bots(settings),
        *_outliers(settings),
    ]
    names = [*(rule.name for rule in every), DUPLICATE]
    faults = [
        f"clean.off: no rule {name!r}; rules here: {', '.join(names)}"
        for name in settings.off
        if name not in names
    ]
    faults += [f"clean.off: {name!r} cannot be off" for name in settings.off if name in ESSENTIAL]
    if faults:
        raise SettingsError("clean", faults)
    return [rule for rule in every if rule.name not in settings.off]


def unreadable() -> Column:
    return F.col("rejected") == "unreadable"


def missing(name: str) -> Column:
    return F.col(name).isNull()


def long_id() -> Column:
    return (F.length("user") > LONGEST_ID) | (F.length("item") > LONGEST_ID)


def bad_time(timed: bool) -> Column:
    """No time, or no window; an implausible time has no window but its own rule."""
    if not timed:
        return F.col("window").isNull()
    return F.col("time").isNull()


def too_early(earliest: str) -> Column:
    return F.col("time") < F.lit(earliest).cast("timestamp")


def future() -> Column:
    return F.col("time") > F.col("arrived") + F.expr("INTERVAL 1 DAY")


def rejected_as(reason: str) -> Column:
    return F.col("rejected") == reason


def not_finite(name: str) -> Column:
    return F.isnan(name) | (F.abs(F.col(name)) == F.lit(float("inf")))


def above(name: str, limit: float) -> Column:
    return F.abs(F.col(name)) > F.lit(limit)


def taken_back(sold: bool) -> Column:
    """A return; `_sold` is a fact (see `recsys_lib.clean.facts`), like the columns below."""
    return (F.col("rejected") == RETURN) & (F.col("_sold") == F.lit(sold))


def too_many(limit: int) -> Column:
    return F.col("_user_events") > limit


def outside(name: str) -> Column:
    it = NUMBERS[name]()
    return (it < F.col(f"_low_{name}")) | (it > F.col(f"_high_{name}"))


def near_duplicate(settings: CleanSettings) -> Rule:
    """Applied last, to rows that all others let pass; `_near` is a fact."""
    reason = f"within {settings.near_seconds:g} s of an event of the same user, item and type"
    return Rule(NEAR_DUPLICATE, reason, lambda: F.col("_near"))


def _basic(mapping: Mapping, settings: CleanSettings) -> list[Rule]:
    timed = mapping.time.period is None
    return [
        Rule("unreadable", "the line does not parse with the log's columns", unreadable),
        Rule("damaged_file", "the file cannot be read", partial(rejected_as, "damaged_file")),
        Rule(
            "changed_type",
            "a field is of another type than before",
            partial(rejected_as, "changed_type"),
        ),
        Rule("missing_user", "no user", partial(missing, "user")),
        Rule("missing_item", "no item", partial(missing, "item")),
        Rule("long_id", f"user or item has more than {LONGEST_ID} characters", long_id),
        Rule("bad_time", "no time, or not in a readable form", partial(bad_time, timed)),
        Rule(
            "too_early",
            f"before {settings.earliest}",
            partial(too_early, settings.earliest),
        ),
        Rule("future", "more than a day after it arrived", future),
        Rule(
            "no_window",
            "the window is empty, no whole number, or far from the time",
            partial(missing, "window"),
        ),
    ]


def _rejects(mapping: Mapping) -> list[Rule]:
    return [
        Rule(reason, f"mapping rejects: {text}", partial(rejected_as, reason))
        for reason, text in mapping.rejects.items()
    ]


def _numbers(settings: CleanSettings) -> list[Rule]:
    found = [
        Rule(f"not_finite_{name}", f"{name} is not finite", partial(not_finite, name))
        for name in ("value", "quantity")
    ]
    limits = (("value", settings.max_value), ("quantity", settings.max_quantity))
    for name, limit in limits:
        if limit is not None:
            rule = Rule(f"max_{name}", f"{name} is beyond {limit}", partial(above, name, limit))
            found = [*found, rule]
    return found


def _returns(mapping: Mapping) -> list[Rule]:
    if mapping.returns is None:
        return []
    why = {True: "takes back an earlier sale", False: "takes back a sale that is not there"}
    return [
        Rule(name, f"{why[sold]}: {mapping.returns}", partial(taken_back, sold))
        for name, sold in ((RETURN, True), (f"{RETURN}_without_sale", False))
    ]


def _bots(settings: CleanSettings) -> list[Rule]:
    if settings.max_user_events is None:
        return []
    reason = f"the user has more than {settings.max_user_events} events in the same "
    told = reason + settings.user_events_per
    return [Rule("bot", told, partial(too_many, settings.max_user_events))]


def _outliers(settings: CleanSettings) -> list[Rule]:
    units = {"box": "quartile ranges beyond the quartiles", "zscore": "deviations from the mean"}
    return [
        Rule(
            f"outlier_{name}",
            f"{name} is more than {chosen.k:g} {units[chosen.outlier]} known before",
            partial(outside, name),
        )
        for name, chosen in numbers(settings).items()
        if chosen.outlier != "off"
    ]
