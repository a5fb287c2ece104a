from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from recsys_lib.catalog.states import merge_number


class Log:
    """Of the lake what is asked: the last number of each table."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def last(self, table: str, app: str) -> int | None:
        return self.numbers.get(table)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=12))
def test_numbers_rise_with_each_change_and_only_then(told: list[tuple[str, bool]]) -> None:
    """`told`: states, and whether a kill came between the two tables of the merge."""
    log: Any = Log()
    former, last = "", -1
    for state, killed in told:
        number = merge_number(log, "app", state, "items", "history")
        assert (number == last) if state == former else (number > last)
        assert number < 2**63, "what Delta takes"
        log.numbers["history"] = number
        if not killed:
            log.numbers["items"] = number
        former, last = state, number
