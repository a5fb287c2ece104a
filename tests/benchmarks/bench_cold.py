"""Items that are a week old: what attributes do for them.

  make bench-cold [ARGS="--last 48"]

Two models learn the weeks up to the first window, one of them without the items' attributes. Both
then rank all items for users of later windows, with today's counts, neighbours and plans; asked is
how many of the purchases of items that were first seen in the window before they find.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from tqdm import tqdm

from jobs.train import EVER, learn, lesson
from recsys_lib.adapters.shards import dataset
from recsys_lib.model.bundle import Bundle
from recsys_lib.model.catalog import Catalog
from recsys_lib.model.histories import Scorer
from recsys_lib.model.requests import requests
from recsys_lib.model.scorer import ModelScorer
from recsys_lib.settings import Settings
from tests.benchmarks.courses import Course, landed_courses, options
from tests.benchmarks.prequential import Exam
from tests.benchmarks.reporting import table, write_report
from tests.benchmarks.shops import Landed

COURSES = {"complete_journey": Course(44, 52)}
KS = (20, 100, 1000)
DRAWS = 1000


@dataclass(frozen=True)
class WithoutAttributes:
    """Reads the same shop, whose items are ids and nothing else. Picklable."""

    reader: Callable[[], Catalog]

    def __call__(self) -> Catalog:
        shop = self.reader()
        return replace(shop, attributes=shop.attributes[:, :0], sizes=())


def learned(landed: Landed, last: int, settings: Settings, root: Path, plain: bool) -> Bundle:
    """The model of everything up to window `last`."""
    folder = root / ("without" if plain else "with")
    if not folder.exists():
        made = lesson(
            landed.context,
            (EVER, last),
            landed.before(last + 1),
            settings,
            parent=None,
            folder=str(folder),
            lineage={"parent": None, "windows": [EVER, last]},
        )
        reader = WithoutAttributes(made.read_catalog) if plain else made.read_catalog
        learn(landed.context, replace(made, read_catalog=reader))
    return Bundle.load(folder)


def first_seen(landed: Landed, window: int) -> NDArray[np.int64]:
    """Indices of the items that were first seen in `window`."""
    where = (pc.field("kind") == "item") & (pc.field("window") == window)
    words = dataset(landed.context.lake.path("vocabulary"), None).to_table(["index"], filter=where)
    return np.asarray(words.column("index")).astype(np.int64)


def found(exam: Exam, cold: NDArray[np.int64], scorers: Sequence[Scorer]) -> NDArray[np.float64]:
    """[users, 1 + scorers * len(KS)]: how many cold items each user took, and how many of these
    each scorer has among its best so many."""
    shop, rows = exam.shop(), []
    context = exam.landed.context
    types = shop.type_indices(context.mapping.targets)
    for batch in exam.rows().combine_chunks().to_batches(max_chunksize=256):
        histories, targets, _ = requests(batch, context.mapping.task, types)
        tops = [scorer.top_k(histories, max(KS), exclude_seen=True)[0] for scorer in scorers]
        for user in range(len(histories)):
            taken = targets.items[targets.offsets[user] : targets.offsets[user + 1]]
            wanted = np.intersect1d(taken, cold)
            if len(wanted):
                hits = [np.isin(wanted, top[user, :k]).sum() for top in tops for k in KS]
                rows.append([len(wanted), *hits])
    return np.array(rows, np.float64).reshape(-1, 1 + len(scorers) * len(KS))


def measure(landed: Landed, course: Course, root: Path) -> list[dict[str, Any]]:
    """One row for each k."""
    settings = landed.context.settings
    models = [learned(landed, course.first, settings, root, plain) for plain in (False, True)]
    # Of the first window, the items that are a week old were still learned.
    windows = range(course.first + 2, course.last + 1)
    parts = []
    for window in tqdm(windows, desc="windows", file=sys.stderr):
        exam = Exam(landed, window)
        plain = replace(exam.shop(), attributes=exam.shop().attributes[:, :0], sizes=())
        scorers = [ModelScorer(m, s) for m, s in zip(models, (exam.shop(), plain), strict=True)]
        parts.append(found(exam, first_seen(landed, window - 1), scorers))
    users = np.concatenate(parts)
    drawn = np.random.default_rng(7).integers(0, len(users), (DRAWS, len(users)))
    sums = np.stack([users.sum(0), *(users[draw].sum(0) for draw in drawn)])
    out = []
    for number, k in enumerate(KS):
        hits, plain_hits = sums[:, 1 + number], sums[:, 1 + len(KS) + number]
        times = hits / np.maximum(plain_hits, 1)
        out.append(
            {
                "shop": landed.shop.name,
                "purchases": int(sums[0, 0]),
                "k": k,
                "recall": hits[0] / sums[0, 0],
                "recall without attributes": plain_hits[0] / sums[0, 0],
                "times": times[0],
                "times interval": np.quantile(times[1:], [0.025, 0.975]).tolist(),
            }
        )
    return out


def main() -> None:
    args = options(__doc__, COURSES).parse_args()
    rows: list[dict[str, Any]] = []
    for landed, course, root in landed_courses(args, "cold", COURSES, COURSES):
        rows += measure(landed, course, root)
    ratios = {f"cold_recall_at_{row['k']}_vs_no_attributes": row["times"] for row in rows}
    path = write_report(
        "cold",
        short=args.short,
        data="Complete Journey: items first seen the week before, by a model of week 44",
        settings={},
        rows=rows,
        ratios=ratios,
    )
    print(table(rows, ["shop", "purchases", "k", "recall", "recall without attributes", "times"]))
    print(path)


if __name__ == "__main__":
    main()
