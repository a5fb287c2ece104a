"""The loop's model beside what practitioners use, on windows that it has not learned.

  make bench-quality [SHORT=1] [ARGS="--shops complete_journey"]

P1 ranks all items, P2 (`new:`) only what the user never had. Every rival knows all events before
the window. Ours learned the windows before the first one at once, and each one after it as an
increment. What was scored or learned is not done again: the same command goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recsys_lib.model.histories import Scorer
from recsys_lib.model.requests import requests
from tests.benchmarks.bench_increment import OURS
from tests.benchmarks.courses import (
    Course,
    columns_of,
    decides,
    landed_courses,
    metrics_of,
    options,
)
from tests.benchmarks.learners import Chain, learner
from tests.benchmarks.prequential import Exam, Rival, judged, mean_of, run, shown
from tests.benchmarks.ranker import Lesson, Ranker
from tests.benchmarks.reporting import table, write_report
from tests.benchmarks.scorers import Als, Ease, SessionKnn, TifuKnn
from tests.benchmarks.shops import Landed

COURSES = {
    "complete_journey": Course(44, 52),
    "online_retail": Course(40, 53),
    "retailrocket_sessions": Course(0, 12),
}
SHORT = {"online_retail": Course(44, 46)}
LESSONS = 6
"""Windows that the ranker learns from."""
RIVALS: dict[str, tuple[str, ...]] = {
    "next_window": ("als", "ease", "ease_new", "tifu_knn", "lightgbm", "lightgbm_no_plans"),
    "next_item": ("session_knn",),
}


def _als(exam: Exam) -> Scorer:
    return Als(exam.events(exam.shop().items))


def _ease(exam: Exam) -> Scorer:
    return Ease(exam.events(exam.shop().items), 50.0, 0.95, log=False, kept=8000, name="ease")


def _ease_new(exam: Exam) -> Scorer:
    return Ease(exam.events(exam.shop().items), 1000.0, 0.95, log=True, kept=8000, name="ease_new")


def _tifu(exam: Exam) -> Scorer:
    return TifuKnn(exam.events(exam.shop().items))


def _session_knn(exam: Exam) -> Scorer:
    return SessionKnn(exam.events(exam.shop().items))


class Trees:
    """Trees that are learned anew for every window, on the windows before it; what they learn of
    a window is made once."""

    def __init__(self, plans: bool) -> None:
        self._plans = plans

    def __call__(self, exam: Exam) -> Scorer:
        lessons = [self._lesson(exam, w) for w in range(exam.window - LESSONS, exam.window)]
        ranker = self._ranker(exam)
        ranker.learn([found for found in lessons if found], exam.landed.context.settings.run.seed)
        return ranker

    def _ranker(self, exam: Exam) -> Ranker:
        context, mapping = exam.landed.context, exam.landed.context.mapping
        planned = len(mapping.plans.features) if mapping.plans else 0
        return Ranker(exam.shop(), context.settings.model.decay, planned, self._plans)

    def _lesson(self, exam: Exam, window: int) -> Lesson | None:
        key = (exam.landed.shop.name, window)
        if key not in _LESSONS:
            past, context = Exam(exam.landed, window), exam.landed.context
            shop, rows = past.shop(), past.rows()
            types = shop.type_indices(context.mapping.targets)
            asked = requests(rows, context.mapping.task, types, shop.items)[:2] if rows else None
            seed = context.settings.run.seed
            _LESSONS[key] = self._ranker(past).lesson(asked, seed) if asked else None
        return _LESSONS[key]


_LESSONS: dict[tuple[str, int], Lesson | None] = {}


MAKERS: dict[str, Rival] = {
    "als": _als,
    "ease": _ease,
    "ease_new": _ease_new,
    "tifu_knn": _tifu,
    "session_knn": _session_knn,
    "lightgbm": Trees(plans=True),
    "lightgbm_no_plans": Trees(plans=False),
}


def measure(landed: Landed, course: Course, names: Sequence[str], root: Path) -> dict[str, Any]:
    """One log: a row for ours and each rival, and ours against the best of them."""
    chain = Chain(landed, learner(OURS), course.first, root / "models")
    windows = [w for w in landed.versions if course.first < w <= course.last]
    folder = run(landed, [chain], {name: MAKERS[name] for name in names}, windows, root)
    found = judged(landed, folder)
    metrics = metrics_of(landed.context.mapping.task)
    rows = []
    for scorer in dict.fromkeys(scorer for _, scorer in found):
        mean = mean_of(found, scorer, windows)
        if mean is not None:
            rows.append({"shop": landed.shop.name, "scorer": scorer, **shown(mean, metrics)})
    return {"rows": rows, "windows": windows}


def main() -> None:
    made = options(__doc__, COURSES)
    made.add_argument("--rivals", nargs="+", choices=list(MAKERS))
    args = made.parse_args()
    told: list[dict[str, Any]] = []
    for landed, course, root in landed_courses(args, "quality", COURSES, SHORT):
        names = args.rivals or RIVALS[landed.context.mapping.task]
        told.append({"shop": landed.shop.name, **measure(landed, course, names, root)})
        _report(told, decides(landed), args.short)


def _report(told: list[dict[str, Any]], settings: dict[str, Any], short: bool) -> None:
    rows = [row for part in told for row in part["rows"]]
    ours = {row["shop"]: row for row in rows if row["scorer"] == OURS}
    main = ours.get("complete_journey", {})
    path = write_report(
        "quality",
        short=short,
        data=", ".join(part["shop"] for part in told),
        settings=settings,
        rows=rows,
        ratios={
            "p1_precision_at_10": main.get("precision@10"),
            "p2_precision_at_10": main.get("new:precision@10"),
        },
    )
    print("\nSHORT: too small to judge by" if short else "")
    for part in told:
        names = columns_of(part["rows"])
        print(f"{part['shop']}, windows {part['windows'][0]} to {part['windows'][-1]}")
        print(table(part["rows"], ["scorer", *names]), "\n")
    print(path)


if __name__ == "__main__":
    main()
