from __future__ import annotations

import math

import pytest

from recsys_lib.adapters.lake import Lake
from recsys_lib.catalog.plans import merge_plans, planned
from recsys_lib.errors import SettingsError
from recsys_lib.mapping import PlanMapping

PLANS = PlanMapping(
    path="plans.csv", item="sku", window="week", features={"shown": "IF(place = '0', 0, 1)"}
)
ROWS = "sku string, week string, place string"


def rows_of(lake: Lake, *told: tuple[str | None, str | None, str]) -> object:
    return lake.spark.createDataFrame(list(told), ROWS)


def values(lake: Lake) -> dict[tuple[int, str], list[float]]:
    rows = lake.read("plans").collect()
    return {(row["window"], row["item"]): list(row["values"]) for row in rows}


def test_places_of_one_item_and_window_are_summed(lake: Lake) -> None:
    told = rows_of(lake, ("a", "3", "x"), ("a", "3", "y"), ("a", "3", "0"), ("a", "4", "0"))
    merge_plans(lake, PLANS, lambda _: told, lambda _: "one")  # type: ignore[arg-type,return-value]
    assert values(lake) == {(3, "a"): [pytest.approx(math.log(3))], (4, "a"): [0.0]}


def test_a_changed_file_replaces_what_it_says_and_an_unchanged_one_is_not_read(lake: Lake) -> None:
    def never(_: str) -> object:
        raise AssertionError("an unchanged file must not be read")

    for state, place in (("one", "x"), ("two", "0")):
        told = rows_of(lake, ("a", "3", place))
        assert merge_plans(lake, PLANS, lambda _, t=told: t, lambda _, s=state: s)  # type: ignore[misc,arg-type]
    assert values(lake) == {(3, "a"): [0.0]}
    assert not merge_plans(lake, PLANS, never, lambda _: "two")  # type: ignore[arg-type]


def test_a_file_that_changes_back_is_merged_again(lake: Lake) -> None:
    for state, place in (("one", "x"), ("two", "0"), ("one", "x"), ("two", "0")):
        told = rows_of(lake, ("a", "3", place))
        for written in (True, False):
            found = merge_plans(lake, PLANS, lambda _, t=told: t, lambda _, s=state: s)  # type: ignore[misc,arg-type]
            assert found is written
        assert values(lake) == {(3, "a"): [pytest.approx(math.log(2)) if place == "x" else 0.0]}


@pytest.mark.parametrize("begun", [None, 3, 4])
def test_what_the_file_no_longer_has_is_planned_no_more_unless_its_window_has_begun(
    lake: Lake, begun: int | None
) -> None:
    if begun is not None:
        silver = lake.spark.createDataFrame([(begun,)], "`window` int")
        lake.append_once("silver", silver, app="t", version=0)
    whole = [("a", "3", "x"), ("a", "4", "x"), ("b", "4", "x"), ("a", "5", "x")]
    for rows in (whole, [("b", "4", "0")]):
        told = rows_of(lake, *rows)
        merge_plans(lake, PLANS, lambda _, t=told: t, lambda _, s=str(rows): s)  # type: ignore[misc,arg-type]
    kept = {(int(week), sku) for sku, week, _ in whole if begun is not None and int(week) <= begun}
    assert values(lake).keys() == kept | {(4, "b")}
    assert values(lake)[4, "b"] == [0.0]


def test_rows_without_item_or_window_plan_nothing(lake: Lake) -> None:
    told = rows_of(lake, (None, "3", "x"), ("a", None, "x"), ("b", "2", "x"))
    found = planned(told, PLANS).collect()  # type: ignore[arg-type]
    assert [(row["window"], row["item"]) for row in found] == [(2, "b")]


def test_columns_that_are_missing_are_named(lake: Lake) -> None:
    wrong = PLANS.model_copy(update={"item": "skew", "features": {"shown": "plaice"}})
    with pytest.raises(SettingsError, match=r"skew[\s\S]*plaice"):
        planned(rows_of(lake, ("a", "3", "x")), wrong)  # type: ignore[arg-type]
