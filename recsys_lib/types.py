"""The nouns that pass between rooms: small, frozen, and free of any outside system."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal, Protocol, Self

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

FOLDS = 2
"""Users fall into this many folds by a hash of their id; what is counted over all users for
training (see `features.neighbours`) leaves out the fold of the user that is learned from."""

# Where within its window an event lies, at most: its place becomes float32 downstream, and nearer
# to 1 it would round up into the next window.
LAST_FRACTION = 0.99

# Characters of a user's or an item's id: arrays of all ids are as wide as the longest.
LONGEST_ID = 256

# What every live source makes of its records. payload: JSON text, or whatever came; origin: topic,
# file, request or table; partition and offset: Kafka's; typed: false where all values are text
# because the format knows nothing else (CSV); problem: the rule by which the source itself turns
# the record away, null for a good one; detail: what was wrong, in words.
RAW_RECORD = (
    "payload string, origin string, `partition` int, `offset` bigint, typed boolean, "
    "problem string, detail string"
)

Form = Literal["dense", "pruned", "shrunk", "int8"]


class Place(Protocol):
    """A folder or a file on any file system, in pathlib's words; Path is one."""

    @property
    def name(self) -> str: ...
    def __truediv__(self, name: str, /) -> Self: ...
    def with_suffix(self, suffix: str, /) -> Self: ...
    def exists(self) -> bool: ...
    def mkdir(self, *, parents: bool = False, exist_ok: bool = False) -> None: ...
    def read_text(self, encoding: str | None = None) -> str: ...
    def write_text(self, data: str, encoding: str | None = None) -> int: ...
    def replace(self, target: Self, /) -> Self: ...
    def glob(self, pattern: str, /) -> Iterable[Self]: ...


@dataclass(frozen=True)
class Increment:
    """Rows that landed in `table` in versions [from_version, to_version), half-open.

    `first_window` and `last_window` are inclusive and count windows of the mapping's length
    (a week, say) on the mapping's own axis.
    """

    table: str
    from_version: int
    to_version: int
    rows: int = 0
    first_event: datetime | None = None
    last_event: datetime | None = None
    first_window: int | None = None
    last_window: int | None = None


@dataclass(frozen=True)
class Exemplars:
    """Which old rows are rehearsed: at most `rows`, spread over some `strata` windows, of which one
    that is a window older is drawn `fading` times as often."""

    rows: int
    fading: float
    strata: int = 16


@dataclass(frozen=True)
class Manifest:
    """A log cut into landing files: raw rows by window, and rows whose window is not known.

    `axis` is the window axis as JSON (see `recsys_lib.ingest.axis`), `log` what tells the log from
    another one; null in manifests of older versions.
    """

    source: str
    axis: str
    windows: dict[int, int]
    unknown: int = 0
    log: str | None = None

    @property
    def rows(self) -> int:
        return sum(self.windows.values()) + self.unknown


@dataclass(frozen=True)
class CleanSplit:
    """Every bronze row is in exactly one of the two frames; `rejected` carries rule and reason."""

    valid: DataFrame
    rejected: DataFrame


@dataclass(frozen=True)
class ModelVersion:
    """One learned state of the model. `learned` is the last window whose events touched it."""

    name: str
    version: int
    uri: str
    learned: int
    parent: int | None = None
    vocabulary_version: int = 0
    form: Form = "dense"
    run_id: str | None = None


@dataclass(frozen=True)
class Estimate:
    """A mean over users with its bootstrap interval (percentile, two-sided)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class EvalReport:
    """What one scorer reached on one window: `metrics["f1@10"]`, and the same by slice."""

    scorer: str
    window: int
    users: int
    metrics: dict[str, Estimate]
    slices: dict[str, dict[str, Estimate]] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """A promotion decision as a value: logged first, obeyed second."""

    promote: bool
    reasons: tuple[str, ...]
    difference: Estimate | None = None
