"""What the shop has planned for a window and knows when it begins: displays, mailers, prices."""

from __future__ import annotations

from collections.abc import Callable

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_lib.catalog.states import merge_number
from recsys_lib.expressions import check, column, identifier
from recsys_lib.mapping import PlanMapping
from recsys_lib.tables import Lake

TABLE = "plans"
APP = "plans of a file"


def merge_plans(
    lake: Lake,
    plans: PlanMapping | None,
    read: Callable[[str], DataFrame],
    fingerprint: Callable[[str], str],
) -> bool:
    """Merge the plan file into `plans` when it has changed; True if it was written now.

    A window's plan is read for decisions in that window and never before, so a file that already
    holds the whole year tells nobody the future.
    """
    if plans is None:
        return False
    number = merge_number(lake, APP, fingerprint(plans.path), TABLE)
    if lake.done(TABLE, APP, number):
        return False
    rows = planned(read(plans.path), plans)
    return lake.merge_once(
        TABLE, rows, on=["window", "item"], gone=_still_to_come(lake), app=APP, version=number
    )


def _still_to_come(lake: Lake) -> str:
    """Plans of windows that have not begun: what the file no longer has is planned no more."""
    told = (
        lake.read("silver").agg(F.max("window")).collect() if lake.exists("silver") else [(None,)]
    )
    begun = told[0][0]
    return "true" if begun is None else f"old.`window` > {begun}"


def planned(rows: DataFrame, plans: PlanMapping) -> DataFrame:
    """(window int, item string, values array<float>): log(1 + sum) of each feature.

    Raises SettingsError with every column of the mapping that the file lacks.
    """
    check(f"plans ({plans.path})", texts_of(plans), rows)
    values = [
        F.coalesce(column(text, rows).cast("double"), F.lit(0.0)).alias(name)
        for name, text in plans.features.items()
    ]
    told = rows.select(
        column(plans.window, rows).cast("int").alias("window"),
        identifier(plans.item, rows).alias("item"),
        *values,
    )
    known = told.where("window IS NOT NULL AND item IS NOT NULL").groupBy("window", "item")
    total = [F.log1p(F.greatest(F.sum(f"`{name}`"), F.lit(0.0))) for name in plans.features]
    return known.agg(F.array(*total).cast("array<float>").alias("values"))


def texts_of(plans: PlanMapping) -> dict[str, str | None]:
    """What the mapping says of the plan file, by the place where it says so."""
    features = {f"plans.features.{name}": text for name, text in plans.features.items()}
    return {"plans.item": plans.item, "plans.window": plans.window, **features}
