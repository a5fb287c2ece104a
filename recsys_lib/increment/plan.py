"""What is learned when: which windows are history, which come one by one, what a lesson covers."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

from recsys_lib.errors import SettingsError
from recsys_lib.windows import FAR, left_out, within_reach


@dataclass(frozen=True)
class Plan:
    """Windows are numbers on the mapping's axis; both ends are inclusive.

    first..history  learned at once by the first model
    increments      learned one by one, in order; may include windows without a row
    judge           lands after the last increment, only to judge it; None where the log ends
    """

    first: int
    history: int
    increments: tuple[int, ...]
    judge: int | None

    @property
    def landing(self) -> tuple[int, ...]:
        """Windows after the history, in the order in which they land."""
        return self.increments if self.judge is None else (*self.increments, self.judge)


def plan(windows: Iterable[int], history: int, increments: int | None) -> Plan:
    """Cut the log's windows (numbers of those that have rows) into history and increments.

    `increments` None: all that the log has. Raises SettingsError when the log is too short, its
    first window stands alone and far, or its history ends before window 0. Windows behind a gap
    that no log has are left out.
    """
    have = sorted(set(windows))
    if not have:
        raise SettingsError("plan", ["the log must have at least one window with rows, got none"])
    near = within_reach(have, alone=FAR)
    if near != have:
        lone = lone_window(have, history)
        if lone is not None:
            raise SettingsError("plan", [lone])
        warnings.warn(left_out(near, have), stacklevel=2)
        have = near
    first, last = have[0], have[-1]
    end = first + history - 1
    if end > last:
        fault = (
            f"windows.history must be at most {last - first + 1} (windows in the log), "
            f"got {history}; lower it, or shorten windows.days"
        )
        raise SettingsError("mapping", [fault])
    early = ends_early(have, history)
    if early is not None:
        raise SettingsError("plan", [early])
    after = range(end + 1, last + 1)
    if increments is None:
        return Plan(
            first, end, tuple(after[:-1]) or tuple(after), after[-1] if len(after) > 1 else None
        )
    chosen = tuple(after[:increments])
    following = after[increments : increments + 1]
    return Plan(first, end, chosen, following[0] if following else None)


def ends_early(windows: Iterable[int], history: int) -> str | None:
    """What to do where the history would end before window 0; None where it does not."""
    have = sorted(set(windows))
    end = have[0] + history - 1
    if end >= 0:
        return None
    wish = "set windows.start to an earlier time and begin with another --out"
    return (
        f"the history must end with window 0 or a later one, but it is windows {have[0]} to "
        f"{end}, before windows.start or the first day that landed; "
        f"{lone_window(have, history) or wish}"
    )


def lone_window(windows: Iterable[int], history: int) -> str | None:
    """What to do where the first window with rows is all of the history and the others are far:
    one event with a plausible but wrong date decides where windows begin. None where it is not so.
    """
    have = sorted(set(windows))
    if len(have) < 2 or have[1] - have[0] < max(history, 3):
        return None
    return (
        f"window {have[0]} stands alone, the next one with rows is {have[1]}: an event with a "
        "wrong date? set clean.earliest to a day after it (of a wrong number: name it in the "
        "mapping's rejects) and begin with another --out"
    )


def lesson_windows(champion_learned: int, window: int) -> tuple[int, int]:
    """What the champion has not learned yet, up to and including `window`.

    After a rejected candidate this is more than one window: what it learned is learned again,
    from the champion, together with what is new.
    """
    return champion_learned + 1, window
