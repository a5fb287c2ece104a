"""Score a window before it is learned: every scorer answers the same requests of every user.

`score_window` returns one row per scorer and user:

window int, scorer string, user string, slices array<string>,
requests int, new:requests int,
one double per metric: the SUM over the user's requests (`new:` ones over its new:requests),
top array<int>: the best max(ks) of the user's last request.

With a shelf there are also the measures of the slates themselves (see `slates`).

Sums, so that means are per request and any grouping of users can be formed later; the user is
the unit of the bootstrap (see `intervals`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys_lib.evaluate.metrics import NEW, distinct, metric_names, ranking_metrics
from recsys_lib.evaluate.slates import KINDS, Shelf
from recsys_lib.model.histories import Histories, Ints, Scorer, Targets
from recsys_lib.model.requests import had_before, in_parts, select, select_targets
from recsys_lib.settings import EvaluateSettings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

Rows = NDArray[np.int64]
Requests = Callable[[pa.RecordBatch], tuple[Histories, Targets, Rows]]
"""A batch of `sequences` rows -> R histories, R targets, and the row of the batch of each."""

# Slices by the events known of the user before the window: a handful says next to nothing, and
# from about fifty on the user's own habits carry most of the forecast.
SHORT_EVENTS = 10
HEAVY_EVENTS = 50
SLICES = ("short", "light", "heavy")


def score_window(
    sequences: DataFrame,
    scorers: Callable[[], Sequence[Scorer]],
    requests: Requests,
    settings: EvaluateSettings,
    *,
    new: bool = True,
    shelf: Callable[[], Shelf] | None = None,
) -> DataFrame:
    """Rank all items for every request of `sequences` and sum the metrics by scorer and user.

    `scorers` is called once in each task, inside the executor, so that a model is loaded there
    and never on the driver. Requests without a target are left out, users without a request are
    absent: a window nobody can be judged on gives no rows. With `new`, every scorer is asked a
    second time (`exclude_seen`) where the user took something new.
    """
    schema = _ddl(settings.ks, shelf is not None)

    def score(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        loaded: Sequence[Scorer] | None = None
        stock: Shelf | None = None
        for batch in batches:
            starts = range(0, batch.num_rows, settings.batch_rows)
            some = (batch.slice(start, settings.batch_rows) for start in starts)
            for rows in chain.from_iterable(map(in_parts, some)):
                histories, targets, row = requests(rows)
                if len(histories) == 0:
                    continue
                loaded = scorers() if loaded is None else loaded
                stock = shelf() if shelf is not None and stock is None else stock
                for scorer in loaded:
                    yield score_batch(rows, scorer, histories, targets, row, settings, new, stock)

    return sequences.mapInArrow(score, schema)


def slices_of(known: NDArray[np.int64]) -> list[list[str]]:
    """Slice names of users with `known` earlier events; `short` users are `light` ones too."""
    out = []
    for events in known.tolist():
        names = ["heavy"] if events >= HEAVY_EVENTS else ["light"]
        out.append(["short", *names] if events < SHORT_EVENTS else names)
    return out


def score_batch(
    rows: pa.RecordBatch,
    scorer: Scorer,
    histories: Histories,
    targets: Targets,
    row: Rows,
    settings: EvaluateSettings,
    new: bool,
    shelf: Shelf | None = None,
) -> pa.RecordBatch:
    """Rows of `score_window` for one batch of sequences, whose `targets` and `row` are given."""
    schema = _arrow(settings.ks, shelf is not None)
    size, depth = rows.num_rows, max(settings.ks)
    sums = {name: np.zeros(size) for name in _sum_names(settings.ks, shelf is not None)}
    top = np.zeros((size, depth), dtype=np.int32)
    for start in range(0, len(histories), settings.batch_rows):
        chosen = np.arange(start, min(start + settings.batch_rows, len(histories)), dtype=np.int64)
        part, wanted = select(histories, chosen), select_targets(targets, chosen)
        place = row[chosen]
        ranked, _ = scorer.top_k(part, depth)
        _add(sums, "", ranked, wanted, place, settings.ks)
        if shelf is not None:
            asked = np.diff(distinct(wanted).offsets) > 0
            for name, values in shelf.measures(part, ranked, settings.ks).items():
                sums[name] += np.bincount(place, weights=values * asked, minlength=size)
        top[place] = ranked  # rows come in order: the last request stays
        if new:
            fresh = unseen(part, wanted)
            some = np.flatnonzero(np.diff(fresh.offsets))
            if len(some):
                part, fresh = select(part, some), select_targets(fresh, some)
                ranked, _ = scorer.top_k(part, depth, exclude_seen=True)
                _add(sums, NEW, ranked, fresh, place[some], settings.ks)
    kept = np.nonzero(sums["requests"] > 0)[0]
    known = rows.column("known").to_numpy(zero_copy_only=False)[kept]
    columns = {
        "window": rows.column("window").take(pa.array(kept)),
        "scorer": pa.array([scorer.name] * len(kept)),
        "user": rows.column("user").take(pa.array(kept)),
        "slices": pa.array(slices_of(known), type=pa.list_(pa.string())),
        **{name: pa.array(values[kept]) for name, values in sums.items()},
        "top": pa.array(list(top[kept]), type=pa.list_(pa.int32())),
    }
    return pa.RecordBatch.from_arrays(
        [columns[field.name].cast(field.type) for field in schema], schema=schema
    )


def unseen(histories: Histories, targets: Targets) -> Targets:
    """Distinct targets that are not in the request's own history."""
    goals = distinct(targets)
    rows = np.repeat(np.arange(len(histories), dtype=np.int64), np.diff(goals.offsets))
    fresh = ~had_before(histories, goals)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows[fresh], minlength=len(histories)))])
    return Targets(offsets.astype(np.int64), goals.items[fresh])


def _add(
    sums: dict[str, NDArray[np.float64]],
    prefix: str,
    ranked: Ints,
    targets: Targets,
    place: Rows,
    ks: Sequence[int],
) -> None:
    """Add to `sums` in place, by row; a request without targets adds nothing to any metric."""
    size = len(sums["requests"])
    asked = (np.diff(distinct(targets).offsets) > 0).astype(np.float64)
    sums[f"{prefix}requests"] += np.bincount(place, weights=asked, minlength=size)
    for name, values in ranking_metrics(ranked, targets, ks).items():
        sums[prefix + name] += np.bincount(place, weights=values, minlength=size)


def _sum_names(ks: Sequence[int], shelf: bool) -> list[str]:
    names = metric_names(ks)
    slates = [f"{kind}@{k}" for k in ks for kind in KINDS] if shelf else []
    return ["requests", f"{NEW}requests", *names, *(NEW + name for name in names), *slates]


def _arrow(ks: Sequence[int], shelf: bool) -> pa.Schema:
    names = _sum_names(ks, shelf)
    kinds = ((n, pa.int32() if n.endswith("requests") else pa.float64()) for n in names)
    return pa.schema(
        [
            pa.field("window", pa.int32()),
            pa.field("scorer", pa.string()),
            pa.field("user", pa.string()),
            pa.field("slices", pa.list_(pa.string())),
            *(pa.field(name, kind) for name, kind in kinds),
            pa.field("top", pa.list_(pa.int32())),
        ]
    )


def _ddl(ks: Sequence[int], shelf: bool) -> str:
    names = _sum_names(ks, shelf)
    kinds = ((n, "int" if n.endswith("requests") else "double") for n in names)
    sums = ", ".join(f"`{name}` {kind}" for name, kind in kinds)
    head = "window int, scorer string, user string, slices array<string>"
    return f"{head}, {sums}, top array<int>"
