"""Strategies of incremental learning, side by side, each window scored before it is learned.

  make bench-increment [SHORT=1] [ARGS="--shops complete_journey --full-every 5"]

The first model learns the weeks before the first window; then every strategy is judged on each
window and learns it. All see today's state (histories, counts, prices, plans, neighbours); only
weights differ. What was scored or learned is not done again: the same command goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from recsys_lib.evaluate.intervals import Replicates
from tests.benchmarks.courses import (
    Course,
    columns_of,
    decides,
    landed_courses,
    metrics_of,
    options,
)
from tests.benchmarks.learners import Chain, learner
from tests.benchmarks.prequential import judged, mean_of, run, shown
from tests.benchmarks.reporting import table, write_report
from tests.benchmarks.shops import Landed

OURS, FROZEN, FULL = "rehearse+distil", "frozen", "full"
DENSE, SHRUNK = f"{OURS}:prune.enabled=false", f"{OURS}:compress.shrink=true"
PLAIN = ("finetune", "finetune:model.dropout=0.3", "rehearse")
STRATEGIES = (FROZEN, *PLAIN, OURS, DENSE, SHRUNK, FULL)


COURSES = {
    "complete_journey": Course(26, 52, 5),
    "online_retail": Course(20, 53, 8),
    "retailrocket_sessions": Course(0, 12, 4),
}
SHORT = {"online_retail": Course(44, 47, 2)}


def measure(landed: Landed, course: Course, names: Sequence[str], root: Path) -> dict[str, Any]:
    """One log: rows of the table, costs by window, ratios."""
    chains = [Chain(landed, learner(n, course.every), course.first, root / "models") for n in names]
    first = course.first + 1
    windows = [w for w in landed.versions if first <= w <= course.last]
    folder = run(landed, chains, {}, windows, root)
    found = judged(landed, folder)
    return summary(landed, chains, found, windows)


def summary(
    landed: Landed,
    chains: Sequence[Chain],
    found: dict[tuple[int, str], Replicates],
    windows: Sequence[int],
) -> dict[str, Any]:
    """Means over all windows, and over those at which the full retrain was fresh."""
    names = metrics_of(landed.context.mapping.task)
    scorers = list(dict.fromkeys(scorer for _, scorer in found))
    fresh = [w for w in windows if (w, FULL) in found and w > windows[0]]
    costs = {c.learner.name: _costs(c, windows) for c in chains}
    rows = []
    for scorer in scorers:
        for which, span in (("all", windows), ("full is fresh", fresh)):
            mean = mean_of(found, scorer, span)
            if mean is not None and (scorer, which) != (FULL, "all"):
                rows.append(_row(landed, scorer, which, shown(mean, names), costs))
    return {
        "rows": rows,
        "ratios": ratios(found, windows, fresh, costs, names),
        "weekly": [
            {"window": w, "scorer": s, **{n: float(found[w, s].means[n][0]) for n in names}}
            for w, s in found
        ],
        "costs": costs,
    }


def _row(
    landed: Landed, scorer: str, which: str, values: dict[str, Any], costs: dict[str, Any]
) -> dict[str, Any]:
    told = [cost["cpu_seconds"] for cost in costs.get(scorer, {}).values()]
    cpu = {"cpu seconds": round(float(np.mean(told)), 1)} if told else {}
    return {"shop": landed.shop.name, "scorer": scorer, "windows": which, **values, **cpu}


def _costs(chain: Chain, windows: Sequence[int]) -> dict[int, dict[str, Any]]:
    """What each update cost, by the window that it learned; the first model is none."""
    learned = [chain.learned(w) for w in windows]
    return {w: chain.learn(w) for w in learned if w is not None and w > chain.first}


def ratios(
    found: dict[tuple[int, str], Replicates],
    windows: Sequence[int],
    fresh: Sequence[int],
    costs: dict[str, dict[int, dict[str, Any]]],
    names: Sequence[str],
) -> dict[str, Any]:
    """Ours against the full retrain and the frozen model, where all three have answered; the
    shrunk line against the dense one on all windows, and on the last half of them."""
    main = "ndcg@10" if "ndcg@10" in names else "mrr@20"
    told: dict[str, Any] = {"metric": main}
    if SHRUNK in costs and DENSE in costs:
        told |= _against("shrunk_vs_dense", found, (SHRUNK, DENSE), windows, main)
        late = windows[len(windows) // 2 :]
        told |= _against("shrunk_vs_dense_late", found, (SHRUNK, DENSE), late, main)
    if not fresh or OURS not in costs or FULL not in costs:
        return told
    means = [mean_of(found, n, fresh) for n in (OURS, FULL, FROZEN)]
    ours, full, frozen = (m.means[main] for m in means if m is not None)
    gap = float(full[0] - frozen[0])
    dear = {w: c["cpu_seconds"] for w, c in costs[FULL].items()}
    ours_at = [costs[OURS][w]["cpu_seconds"] for w in dear if w in costs[OURS]]
    return told | {
        "update_vs_full_cpu": round(float(np.mean(ours_at) / np.mean(list(dear.values()))), 4),
        **_against("ndcg_incremental_vs_full", found, (OURS, FULL), fresh, main),
        "gap_closed": round(float(ours[0] - frozen[0]) / gap, 4) if gap > 0 else None,
        **_told("gap_full_minus_frozen", full - frozen, 5),
        **_told("gap_incremental_minus_frozen", ours - frozen, 5),
    }


def _told(name: str, replicates: Any, digits: int) -> dict[str, Any]:
    """The sample's own value, which comes first, and its 95 % interval."""
    low, high = np.quantile(replicates[1:], [0.025, 0.975])
    value, *interval = (round(float(v), digits) for v in (replicates[0], low, high))
    return {name: value, f"{name}_interval": interval}


def _against(
    name: str,
    found: dict[tuple[int, str], Replicates],
    pair: tuple[str, str],
    windows: Sequence[int],
    metric: str,
) -> dict[str, Any]:
    """The ratio of two scorers' means over the windows, with its interval paired by user."""
    ours, other = (m.means[metric] for s in pair if (m := mean_of(found, s, windows)) is not None)
    return _told(name, ours / other, 4)


def main() -> None:
    made = options(__doc__, COURSES)
    made.add_argument("--strategies", nargs="+", default=list(STRATEGIES))
    made.add_argument("--full-every", type=int, metavar="N", help="windows between full retrains")
    args = made.parse_args()
    told: list[dict[str, Any]] = []
    for landed, course, root in landed_courses(args, "increment", COURSES, SHORT):
        course = replace(course, every=args.full_every or course.every)
        found = measure(landed, course, args.strategies, root)
        told.append({"shop": landed.shop.name, **found})
        _report(told, decides(landed), args.short)


def _report(told: list[dict[str, Any]], settings: dict[str, Any], short: bool) -> None:
    rows = [row for part in told for row in part["rows"]]
    path = write_report(
        "increment",
        short=short,
        data=", ".join(part["shop"] for part in told),
        settings=settings,
        rows=rows,
        ratios=told[0]["ratios"],
        ratios_by_shop={part["shop"]: part["ratios"] for part in told},
        weekly={part["shop"]: part["weekly"] for part in told},
        costs={part["shop"]: part["costs"] for part in told},
    )
    print("\nSHORT: too small to judge by" if short else "")
    for part in told:
        names = ["scorer", "windows", *columns_of(part["rows"]), "cpu seconds"]
        print(table(part["rows"], names))
        print(f"{part['shop']}: {part['ratios']}\n")
    print(path)


if __name__ == "__main__":
    main()
