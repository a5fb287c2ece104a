"""Which ranges are planned, while others commit; MariaDB itself is asked in tests/cluster."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from recsys_lib.adapters.sources.jdbc import Place, Ranges

LOOK_BACK = 100


class Shop:
    """A table whose rows have one number, their moment; a few of them make a range."""

    def __init__(self, *moments: int, rows_of_range: int = 10) -> None:
        self.moments, self.rows_of_range = set(moments), rows_of_range
        self.asked = 0
        self.meanwhile: dict[int, Callable[[], None]] = {}

    def commit(self, question: int, moment: int) -> None:
        """Just before the digest is asked for the `question`-th time from now on."""
        self.meanwhile[self.asked + question] = lambda: self.moments.add(moment)

    def next_place(self, after: Place | None, until: str) -> Place | None:
        due = [m for m in sorted(self.moments) if m <= int(until) and (not after or m > at(after))]
        return Place(str(due[: self.rows_of_range][-1]), "0") if due else None

    def tail(self, last: Place) -> str:
        self.asked += 1
        self.meanwhile.pop(self.asked, lambda: None)()
        return str([m for m in sorted(self.moments) if at(last) - LOOK_BACK < m <= at(last)])

    def before(self, last: Place) -> Place:
        return Place(str(at(last) - LOOK_BACK), "NULL")

    def settled(self) -> str:
        return "1000"


def at(place: Place) -> int:
    return int(place.moment)


def planned(shop: Shop, folder: Path) -> list[tuple[int | None, int]]:
    """The ranges that this plan adds."""
    table: Any = shop
    before = set(folder.glob("*.json"))
    Ranges(str(folder)).plan(table)
    found = [json.loads(f.read_text()) for f in sorted(set(folder.glob("*.json")) - before)]
    return [
        (int(r["after"]["moment"]) if r["after"] else None, int(r["last"]["moment"])) for r in found
    ]


def test_what_is_committed_between_two_plans_behind_the_place_reached_is_planned(
    tmp_path: Path,
) -> None:
    shop = Shop(500, 520)
    assert planned(shop, tmp_path) == [(None, 520)]
    assert planned(shop, tmp_path) == []
    shop.moments.add(510)
    assert planned(shop, tmp_path) == [(420, 520)]
    assert planned(shop, tmp_path) == []


def test_what_is_committed_while_the_next_range_is_planned_is_not_passed_over(
    tmp_path: Path,
) -> None:
    shop = Shop(500, 520)
    planned(shop, tmp_path)
    shop.moments.add(530)
    shop.commit(2, 510)  # after the comparison, before the digest of the next range
    assert planned(shop, tmp_path) == [(420, 530)]
    assert planned(shop, tmp_path) == []


def test_what_is_committed_in_a_range_of_this_plan_is_read_with_it(tmp_path: Path) -> None:
    shop = Shop(500, 520, 540, 560, rows_of_range=2)
    shop.commit(2, 510)  # the first range has its digest and is not read yet
    assert planned(shop, tmp_path) == [(None, 520), (520, 560)]
    assert planned(shop, tmp_path) == []


def test_a_table_whose_rows_never_stay_is_planned_with_a_few_questions(tmp_path: Path) -> None:
    shop = Shop(*range(100), rows_of_range=10)
    planned(shop, tmp_path)
    shop.moments |= set(range(100, 200))
    asked = shop.asked
    for question in range(1, 200):  # each time, a row behind the place has gone to the front
        shop.meanwhile[asked + question] = partial(shop.moments.discard, 100 - question)
    assert planned(shop, tmp_path)[-1][1] == 199
    assert shop.asked - asked < 40


def test_what_is_committed_again_and_again_ends_in_one_range_that_has_all(tmp_path: Path) -> None:
    shop = Shop(500, 520)
    planned(shop, tmp_path)
    shop.moments.add(530)
    shop.commit(2, 510)
    shop.commit(4, 511)  # while it begins anew
    assert planned(shop, tmp_path) == [(420, 530)]
    assert planned(shop, tmp_path) == []
