"""What a run did, window by window, as plain values: the only input of the report.

A window's summary is written when the window is done, one JSON file each, so that a run that was
killed and resumed reports the windows of all its attempts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from recsys_lib.types import Estimate, EvalReport, Place, Verdict

P = TypeVar("P", bound=Place)

FOLDER = "windows"

Plain = dict[str, Any]


@dataclass(frozen=True)
class WindowSummary:
    """One pass of the loop: what landed, who was right about it, what was decided and learned.

    rows, kept    rows landed; rows that reached silver
    quarantined   reason -> rows
    reports       scorer -> its exam on this window, taken before learning it; empty for history
    coverage      scorer -> share of the items in anybody's best 10
    candidate     the version that was judged; `champion` the one it was judged against
    learned       the version made of this window; `model` its size: sparsity, bytes, parameters
    seconds       stage -> wall time, in the order in which the stages ran
    note          why something was skipped, in words
    """

    window: int
    rows: int = 0
    kept: int = 0
    quarantined: dict[str, int] = field(default_factory=dict)
    items: int = 0
    users: int = 0
    reports: dict[str, EvalReport] = field(default_factory=dict)
    coverage: dict[str, float] = field(default_factory=dict)
    candidate: int | None = None
    champion: int | None = None
    verdict: Verdict | None = None
    learned: int | None = None
    model: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class RunSummary:
    """A whole run. `overall`: scorer -> metrics averaged over users, then over windows; `metric`:
    the one that the task is told by."""

    name: str
    data: str
    windows: tuple[WindowSummary, ...]
    overall: dict[str, EvalReport] = field(default_factory=dict)
    champion: int | None = None
    metric: str = "f1@10"
    settings: Plain = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def judged(self) -> tuple[WindowSummary, ...]:
        """The windows somebody was judged on."""
        return tuple(window for window in self.windows if window.reports)

    def scorers(self) -> list[str]:
        """Every scorer of any window, in the order of first appearance."""
        return list(dict.fromkeys(name for window in self.windows for name in window.reports))

    def mean(self, scorer: str, metric: str) -> float:
        """From `overall`, or else the unweighted mean over windows; NaN when never judged."""
        if scorer in self.overall and metric in self.overall[scorer].metrics:
            return self.overall[scorer].metrics[metric].value
        found = [value_of(window, scorer, metric) for window in self.windows]
        there = [value for value in found if not math.isnan(value)]
        return sum(there) / len(there) if there else math.nan


def value_of(window: WindowSummary, scorer: str, metric: str) -> float:
    """NaN where the scorer was not judged."""
    report = window.reports.get(scorer)
    found = report.metrics.get(metric) if report else None
    return found.value if found else math.nan


def write_window(summary: WindowSummary, out: P) -> P:
    """`out`/windows/<window>.json, replaced as a whole: a kill leaves the old file or the new."""
    folder = out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{summary.window:06d}.json"
    part = path.with_suffix(".part")
    part.write_text(to_json(asdict(summary)), encoding="utf-8")
    return part.replace(path)


def read_windows(out: Place) -> tuple[WindowSummary, ...]:
    """Every window summary of a run folder, in order; none yet is an empty tuple."""
    files = sorted((out / FOLDER).glob("*.json"), key=str)
    return tuple(window_of(json.loads(file.read_text(encoding="utf-8"))) for file in files)


def to_json(values: Mapping[str, Any]) -> str:
    """Strict JSON: what is not a number becomes null."""
    return json.dumps(_finite(values), indent=1, allow_nan=False, default=str)


def window_of(values: Plain) -> WindowSummary:
    """The inverse of `asdict`, after a trip through `to_json`."""
    verdict = values["verdict"]
    return WindowSummary(
        **{
            **values,
            "reports": {name: _report(found) for name, found in values["reports"].items()},
            "verdict": None if verdict is None else _verdict(verdict),
        }
    )


def _report(values: Plain) -> EvalReport:
    slices = {name: _estimates(part) for name, part in values["slices"].items()}
    return EvalReport(**{**values, "metrics": _estimates(values["metrics"]), "slices": slices})


def _verdict(values: Plain) -> Verdict:
    gap = values["difference"]
    difference = None if gap is None else _estimates({"it": gap})["it"]
    return Verdict(values["promote"], tuple(values["reasons"]), difference)


def _estimates(values: Plain) -> dict[str, Estimate]:
    return {
        name: Estimate(**{k: math.nan if v is None else v for k, v in found.items()})
        for name, found in values.items()
    }


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    if hasattr(value, "item"):
        value = value.item()  # a numpy scalar
    return None if isinstance(value, float) and not math.isfinite(value) else value
