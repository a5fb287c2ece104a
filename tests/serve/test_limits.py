from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from recsys_lib.serve.limits import MOST_CLIENTS, Allowance


@given(
    st.floats(0.1, 1000),
    st.integers(1, 1000),
    st.lists(st.tuples(st.floats(0, 10), st.integers(1, 1000)), max_size=50),
)
def test_nobody_sends_more_than_the_burst_and_the_rate_allow(
    rate: float, burst: int, asked: list[tuple[float, int]]
) -> None:
    allowance, now, taken = Allowance(rate, burst), 0.0, 0
    for wait, events in asked:
        now += wait
        if allowance.take("c", events, now) == 0:
            taken += events
        assert taken <= burst + rate * now + 1e-6


def test_who_waits_as_long_as_told_may_send() -> None:
    allowance = Allowance(rate=10, burst=20)
    assert allowance.take("c", 20, 0) == 0
    wait = allowance.take("c", 15, 0)
    assert wait == 1.5
    assert allowance.take("c", 15, 1.4) > 0
    assert allowance.take("c", 15, wait) == 0


def test_clients_do_not_share_an_allowance_and_are_forgotten_in_the_end() -> None:
    allowance = Allowance(rate=0.001, burst=1)
    assert [allowance.take(str(n), 1, 0) for n in range(MOST_CLIENTS + 1)] == [0.0] * (
        MOST_CLIENTS + 1
    )
    assert allowance.take(str(MOST_CLIENTS), 1, 0) > 0
    assert allowance.take("0", 1, 0) == 0
