"""A mapping says what the columns of somebody's log mean. One YAML file a shop."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, model_validator

from recsys_lib.settings import Section, read_yaml, validate
from recsys_lib.types import Place

RETURN = "return"  # the rule by which rows of `returns` are kept aside
FROM_SOURCE = "jdbc"  # path of a table whose rows a live source sends

Unit = Literal["s", "ms", "us", "ns"]
Length = Literal["hour", "day", "week", "month"]


class TimeMapping(Section):
    """When an event happened: exactly one of `timestamp`, `epoch` (with `unit`) or `period`.

    `period` is an integer that already counts windows; then nothing finer is known of the time,
    and `order` decides what came first.
    """

    timestamp: str | None = Field(None, description="column or SQL: timestamp, date or ISO text")
    epoch: str | None = Field(None, description="column or SQL: a number since 1970-01-01 UTC")
    unit: Unit = "s"
    period: str | None = Field(None, description="column or SQL: an integer period")

    @model_validator(mode="after")
    def _one(self) -> TimeMapping:
        given = [n for n in ("timestamp", "epoch", "period") if getattr(self, n) is not None]
        if len(given) != 1:
            raise ValueError(f"name exactly one of timestamp, epoch, period; got {given or 'none'}")
        return self


class WindowMapping(Section):
    """How the log is cut into increments.

    Windows are numbered from 0 at `start` (default: the first event's midnight, UTC), each `days`
    long; or a column that already counts them is named by `column`. With `time.period` the period
    is the window.
    """

    days: float = Field(7.0, gt=0, description="length of a window in days")
    start: str | None = Field(None, description="ISO time at which window 0 starts")
    column: str | None = Field(None, description="column or SQL: integer window of the event")
    history: int = Field(..., ge=1, description="windows the first model learns from")


# Fields that mean the same in every shop, with their types; attributes are free and are text.
STANDARD = {"price": "double", "stock": "double", "available": "boolean", "promotion": "string"}


# Columns of the tables that attributes become columns of.
TAKEN = ("id", "updated", "index", "window")
ATTRIBUTE = re.compile(r"[^\W_][^\s.,;{}()=`]*")


class TableMapping(Section):
    """Attributes of items or users. `path` null: the columns are taken from the events.

    `updated` is when the shop wrote the row; without it a change counts from when it is read.
    """

    path: str | None = Field(
        None, description="CSV, JSON lines or Parquet; jdbc: the rows land from a database"
    )
    id: str = Field(..., description="column or SQL: the id the events use")
    attributes: dict[str, str] = Field(..., min_length=1, description="name: column or SQL")
    updated: str | None = Field(None, description="column or SQL: source time of the row")
    price: str | None = Field(None, description="column or SQL: what one costs now")
    stock: str | None = Field(None, description="column or SQL: how many are left")
    available: str | None = Field(None, description="column or SQL: on the shelf or not")
    promotion: str | None = Field(None, description="column or SQL: its name; null: none")

    @property
    def columns(self) -> dict[str, str]:
        """Attributes, then the standard fields that are given: name -> column or SQL."""
        standard = {name: getattr(self, name) for name in STANDARD}
        return {**self.attributes, **{n: text for n, text in standard.items() if text is not None}}

    @model_validator(mode="after")
    def _plain(self) -> TableMapping:
        odd = [n for n in self.attributes if n.lower() in TAKEN or not ATTRIBUTE.fullmatch(n)]
        if odd:
            raise ValueError(
                f"attributes must be named by a word that begins with a letter and is none of "
                f"{', '.join(TAKEN)}, got {odd}; the column may keep its name: another_name: column"
            )
        lowered = [n.lower() for n in self.columns]
        alike = [n for n in self.columns if lowered.count(n.lower()) > 1]
        if alike:
            raise ValueError(f"attributes must differ by more than upper and lower case: {alike}")
        twice = [n for n in self.attributes if n in STANDARD and getattr(self, n) is not None]
        if twice:
            raise ValueError(f"attributes and standard fields must differ, got {twice} in both")
        if self.updated is not None and self.path is None:
            raise ValueError("updated needs path; what events say counts from the event's time")
        return self


class PlanMapping(Section):
    """What the shop plans for a window and knows when it begins: displays, mailers, prices.

    Rows of one item and window are summed.
    """

    path: str = Field(..., description="CSV, JSON lines or Parquet")
    item: str = Field(..., description="column or SQL: the id the events use")
    window: str = Field(..., description="column or SQL: integer window the plan is for")
    features: dict[str, str] = Field(..., min_length=1, description="name: column or SQL, from 0")


class Mapping(Section):
    """Everything needed to read one shop's log. Values are columns, SQL expressions or constants.

    A constant is a SQL literal: `type: "'view'"`.
    """

    name: str = "events"
    user: str
    item: str
    type: str = "'event'"
    time: TimeMapping
    order: str | None = Field(None, description="column or SQL: breaks ties in time")
    id: str | None = Field(None, description="column or SQL: the source's own event id")
    value: str | None = Field(None, description="column or SQL: price or revenue")
    quantity: str | None = None
    windows: WindowMapping
    task: Literal["next_window", "next_item"] = Field(
        "next_window", description="next_window: baskets of returning users; next_item: sessions"
    )
    targets: tuple[str, ...] = Field((), description="event types to predict; empty: all")
    rejects: dict[str, str] = Field(
        {}, description="reason: SQL condition; rows for which it holds go to quarantine"
    )
    returns: str | None = Field(
        None,
        description="SQL condition; such a row takes back an earlier sale of the user and item",
    )
    items: TableMapping | None = None
    users: TableMapping | None = None
    plans: PlanMapping | None = None

    @model_validator(mode="after")
    def _one_return(self) -> Mapping:
        if self.returns is not None and RETURN in self.rejects:
            raise ValueError(f"rejects must not name {RETURN!r} where returns is given")
        return self


def load_mapping(path: str | Place) -> Mapping:
    """Read a mapping file. Raises SettingsError with every fault at once."""
    values: dict[str, Any] = read_yaml(path)
    return validate(Mapping, values, str(path), [])
