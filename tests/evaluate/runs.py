"""A small run, as the report sees it."""

from __future__ import annotations

from recsys_lib.evaluate.summary import RunSummary, WindowSummary
from recsys_lib.types import Estimate, EvalReport, Verdict


def report(scorer: str, window: int, value: float) -> EvalReport:
    found = {
        metric: Estimate(value * share, value * share - 0.01, value * share + 0.01)
        for metric, share in (("f1@10", 1.0), ("ndcg@10", 1.6), ("new:f1@10", 0.1))
    }
    return EvalReport(scorer, window, 60, found, {"heavy": found})


def small_run() -> RunSummary:
    """History up to window 3, a window that promotes, one that is empty, one that holds."""
    history = WindowSummary(
        3,
        rows=1000,
        kept=900,
        quarantined={"duplicate": 60, "no user": 40},
        learned=1,
        model={"sparsity": 0.0, "megabytes": 2.5},
        seconds={"land": 4.0, "learn": 60.0},
    )
    judged = [
        WindowSummary(
            window,
            rows=100,
            kept=95,
            quarantined={"duplicate": 5},
            users=60,
            reports={
                "stale": report("stale", window, 0.16),
                "popularity": report("popularity", window, 0.07),
                "personal_frequency": report("personal_frequency", window, 0.165),
                "candidate": report("candidate", window, 0.18),
                "champion": report("champion", window, 0.175),
            },
            coverage={"candidate": 0.25},
            candidate=version,
            champion=1,
            verdict=Verdict(promote, ("better <on> 60 users",), Estimate(0.01, 0.005, 0.015)),
            learned=version + 1,
            model={"sparsity": 0.5, "megabytes": 2.6},
            seconds={"land": 1.0, "score": 3.0, "learn": 9.0},
        )
        for window, version, promote in ((4, 1, True), (6, 2, False))
    ]
    empty = WindowSummary(5, note="no rows landed", seconds={"land": 0.5})
    windows = (history, judged[0], empty, judged[1])
    return RunSummary("demo", "toy shop", windows, champion=1, settings={"seed": 7})
