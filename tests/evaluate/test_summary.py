from __future__ import annotations

import json
import math
from pathlib import Path

from recsys_lib.evaluate.summary import (
    RunSummary,
    WindowSummary,
    read_windows,
    to_json,
    value_of,
    write_window,
)
from tests.evaluate.runs import small_run


def test_windows_written_one_by_one_are_read_back_in_order(tmp_path: Path) -> None:
    run = small_run()
    for window in reversed(run.windows):
        write_window(window, tmp_path)
    assert read_windows(tmp_path) == run.windows
    write_window(WindowSummary(5, rows=1), tmp_path)  # a window done again replaces itself
    assert [w.rows for w in read_windows(tmp_path)] == [1000, 100, 1, 100]


def test_run_without_windows_is_an_empty_tuple(tmp_path: Path) -> None:
    assert read_windows(tmp_path) == ()


def test_what_is_not_a_number_becomes_null() -> None:
    assert json.loads(to_json({"a": math.nan, "b": [math.inf, 1.0]})) == {"a": None, "b": [None, 1]}


def test_mean_is_over_the_windows_that_were_judged() -> None:
    run = small_run()
    assert math.isclose(run.mean("candidate", "f1@10"), 0.18)
    assert math.isnan(run.mean("nobody", "f1@10"))
    assert math.isnan(value_of(run.windows[0], "candidate", "f1@10"))
    assert [window.window for window in run.judged] == [4, 6]
    assert math.isnan(RunSummary("x", "y", ()).mean("candidate", "f1@10"))
