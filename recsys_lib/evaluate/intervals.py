"""Means with bootstrap intervals over users, computed where the rows are.

Poisson bootstrap: in replicate r a user counts Poisson(1) times, drawn from a hash of the user,
the seed and r. The weights depend on nothing else, so the replicates of two scorers (and of two
windows) are paired: their difference is taken replicate by replicate. The driver receives
(replicates + 1) x metrics sums for each window, scorer and slice, however many users there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys_lib.evaluate.metrics import NEW, Doubles, f1_of_means
from recsys_lib.settings import EvaluateSettings
from recsys_lib.types import Estimate, EvalReport

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

ALL = "all"
Key = tuple[int, str, str]
"""Window, scorer, slice."""

_CHUNK_ROWS = 4096


@dataclass(frozen=True)
class Replicates:
    """Per-request means of one scorer: means[name] is float64 [replicates + 1].

    Place 0 is the mean of the sample itself. `f1@k` is the F1 of the means of each replicate.
    `new_users` are those with at least one request in the `new:` metrics.
    """

    window: int
    scorer: str
    slice: str
    users: int
    new_users: int
    requests: int
    means: dict[str, Doubles]

    def value(self, metric: str) -> float:
        return float(self.means[metric][0])


def replicates(
    metrics: DataFrame, settings: EvaluateSettings, seed: int, *, slices: bool = True
) -> dict[Key, Replicates]:
    """Replicates of every window, scorer and slice (ALL first) in rows of `score_window`.

    Without `slices` only ALL, which is what a mean over many windows needs.
    """
    from pyspark.sql import functions as F

    names = [n for n in metrics.columns if "@" in n]
    sums = ["requests", f"{NEW}requests", *names]
    keys = ["window", "scorer", "slice", "replicate"]
    whole = F.array(F.lit(ALL))
    groups = F.concat(whole, F.col("slices")) if slices else whole
    user = F.xxhash64("user").alias("user")
    rows = metrics.select("window", "scorer", groups.alias("groups"), user, *map(_quoted, sums))
    columns = ", ".join(f"`{name}` double" for name in [*sums, "users", "new_users"])
    schema = f"window int, scorer string, slice string, replicate int, {columns}"

    def partial(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return _partial_sums(batches, sums, settings.bootstrap, seed)

    totals = (
        rows.mapInArrow(partial, schema)
        .groupBy(*keys)
        .agg(*(F.sum(_quoted(n)).alias(n) for n in [*sums, "users", "new_users"]))
        .toArrow()
        .sort_by([(key, "ascending") for key in keys])
    )
    return _built(totals, names, settings.bootstrap + 1)


def reports(
    found: dict[Key, Replicates], settings: EvaluateSettings
) -> dict[tuple[int, str], EvalReport]:
    """An EvalReport for every (window, scorer)."""
    out: dict[tuple[int, str], EvalReport] = {}
    for (window, scorer, _), whole in ((k, r) for k, r in found.items() if k[2] == ALL):
        slices = {
            key[2]: estimates(part, settings.confidence)
            for key, part in found.items()
            if key[:2] == (window, scorer) and key[2] != ALL
        }
        means = estimates(whole, settings.confidence)
        out[window, scorer] = EvalReport(scorer, window, whole.users, means, slices)
    return out


def by_slice(found: dict[Key, Replicates], window: int, scorer: str) -> dict[str, Replicates]:
    """Slice -> replicates of one scorer on one window; empty when nobody was judged."""
    return {key[2]: part for key, part in found.items() if key[:2] == (window, scorer)}


def across_windows(found: Iterable[Replicates]) -> Replicates:
    """The unweighted mean over windows of one scorer and slice, replicate by replicate: over those
    in which there was a request, NaN where there was none in any.

    Users keep their weight in all windows, so the interval is still one over users.
    """
    parts = list(found)
    first = parts[0]
    means = {n: _mean_of([part.means[n] for part in parts]) for n in first.means}
    return Replicates(
        window=max(part.window for part in parts),
        scorer=first.scorer,
        slice=first.slice,
        users=max(part.users for part in parts),
        new_users=max(part.new_users for part in parts),
        requests=sum(part.requests for part in parts),
        means={**means, **f1_of_means(means)},
    )


def estimates(found: Replicates, confidence: float) -> dict[str, Estimate]:
    return {name: estimate(values, confidence) for name, values in found.means.items()}


def estimate(values: Doubles, confidence: float) -> Estimate:
    """Two-sided percentile interval of replicates [1:] around the sample's own mean, [0]."""
    tail = (1.0 - confidence) / 2.0
    drawn = values[1:][~np.isnan(values[1:])]
    if len(drawn) == 0 or np.isnan(values[0]):
        return Estimate(float(values[0]), float("nan"), float("nan"))
    low, high = np.quantile(drawn, [tail, 1.0 - tail])
    return Estimate(float(values[0]), float(low), float(high))


def coverage(metrics: DataFrame, items: int, k: int = 10) -> dict[tuple[int, str], float]:
    """Share of `items` that stand in anybody's best k, by (window, scorer).

    Reads the list kept of each user: that of the last request.
    """
    from pyspark.sql import functions as F

    shown = metrics.select("window", "scorer", F.explode(F.slice("top", 1, k)).alias("item"))
    counts = (
        shown.where("item > 0").groupBy("window", "scorer").agg(F.countDistinct("item").alias("n"))
    )
    return {(r["window"], r["scorer"]): r["n"] / max(items, 1) for r in counts.collect()}


def weights(users: NDArray[np.int64], draws: int, seed: int) -> NDArray[np.uint8]:
    """Poisson(1) weights uint8 [U, draws + 1] of hashed users; column 0 is all ones."""
    draw = np.arange(1, draws + 1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        start = _mixed_bits(
            users.astype(np.uint64) ^ _mixed_bits(np.array([seed], dtype=np.uint64))
        )
        bits = _mixed_bits(start[:, None] + draw * np.uint64(0x9E3779B97F4A7C15))
    uniform = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    steps = np.cumsum(np.exp(-1.0) / np.cumprod([1.0, *range(1, 18)]))
    out = np.ones((len(users), draws + 1), dtype=np.uint8)
    out[:, 1:] = np.searchsorted(steps, uniform, side="right")
    return out


def _mixed_bits(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele, Lea and Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _partial_sums(
    batches: Iterable[pa.RecordBatch], sums: Sequence[str], draws: int, seed: int
) -> Iterator[pa.RecordBatch]:
    """Weighted sums of one task's rows, by group and replicate."""
    totals: dict[Key, Doubles] = {}
    for batch in batches:
        for start in range(0, batch.num_rows, _CHUNK_ROWS):
            rows = batch.slice(start, _CHUNK_ROWS)
            columns = [rows.column(n).to_numpy(zero_copy_only=False) for n in sums]
            values = np.stack(columns, axis=1).astype(np.float64)  # [U, M]
            marks = [np.ones(len(values)), values[:, 1] > 0]
            values = np.concatenate([values, np.stack(marks, axis=1)], axis=1)
            drawn = weights(rows.column("user").to_numpy(), draws, seed)
            for key, members in _members(rows).items():
                found = drawn[members].T.astype(np.float64) @ values[members]
                totals[key] = totals[key] + found if key in totals else found
    for (window, scorer, part), table in totals.items():
        count = len(table)
        yield pa.RecordBatch.from_arrays(
            [
                pa.array(np.full(count, window, dtype=np.int32)),
                pa.array([scorer] * count),
                pa.array([part] * count),
                pa.array(np.arange(count, dtype=np.int32)),
                *(pa.array(column) for column in table.T),
            ],
            names=["window", "scorer", "slice", "replicate", *sums, "users", "new_users"],
        )


def _members(rows: pa.RecordBatch) -> dict[Key, NDArray[np.int64]]:
    out: dict[Key, list[int]] = {}
    columns = [rows.column(name).to_pylist() for name in ("window", "scorer", "groups")]
    for place, (window, scorer, groups) in enumerate(zip(*columns, strict=True)):
        for group in groups:
            out.setdefault((window, scorer, group), []).append(place)
    return {key: np.array(places) for key, places in out.items()}


def _built(totals: pa.Table, names: Sequence[str], size: int) -> dict[Key, Replicates]:
    out: dict[Key, Replicates] = {}
    for start in range(0, totals.num_rows, size):
        part = totals.slice(start, size)
        column = {name: part.column(name).to_numpy() for name in part.column_names}
        asked, new_asked = column["requests"], column[f"{NEW}requests"]
        means = {n: _mean(column[n], new_asked if n.startswith(NEW) else asked) for n in names}
        found = Replicates(
            window=int(column["window"][0]),
            scorer=str(column["scorer"][0]),
            slice=str(column["slice"][0]),
            users=int(column["users"][0]),
            new_users=int(column["new_users"][0]),
            requests=int(asked[0]),
            means={**means, **f1_of_means(means)},
        )
        out[found.window, found.scorer, found.slice] = found
    return dict(sorted(out.items(), key=lambda pair: (pair[0][:2], pair[0][2] != ALL, pair[0][2])))


def _mean_of(parts: Sequence[Doubles]) -> Doubles:
    """Place by place, of what is a number."""
    values = np.stack(parts)
    there = ~np.isnan(values)
    return _mean(np.where(there, values, 0.0).sum(0), there.sum(0).astype(np.float64))


def _mean(total: Doubles, count: Doubles) -> Doubles:
    """NaN where nothing was counted: a replicate that drew no request at all."""
    return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)


def _quoted(name: str) -> str:
    return f"`{name}`"
