"""How much one client may send: a bucket of tokens that fills at a steady rate."""

from __future__ import annotations

from collections import OrderedDict

MOST_CLIENTS = 10_000


class Allowance:
    """`rate` events a second, `burst` at once. Remembers the latest `MOST_CLIENTS` only."""

    def __init__(self, rate: float, burst: int) -> None:
        self.rate, self.burst = rate, burst
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str, events: int, now: float) -> float:
        """0 where `client` may send `events` now; else the seconds after which it may."""
        left, since = self._left.pop(client, (float(self.burst), now))
        left = min(float(self.burst), left + (now - since) * self.rate)
        short = events - left
        self._left[client] = (left if short > 0 else left - events, now)
        if len(self._left) > MOST_CLIENTS:
            self._left.popitem(last=False)
        return max(0.0, short / self.rate)
