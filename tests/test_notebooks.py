from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import nbformat
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from recsys_lib.adapters.tracking import Tracking
from recsys_lib.evaluate.report import write_report
from recsys_lib.evaluate.summary import write_window
from recsys_lib.settings import TrackingSettings
from tests.evaluate.runs import small_run

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "01_increments.ipynb"
MONDAY = datetime(2026, 11, 2, tzinfo=UTC)


QUARANTINE = pa.schema(
    [
        ("key", pa.string()),
        ("rule", pa.string()),
        ("window", pa.int32()),
        ("reingested", pa.int64()),
    ]
)


def write(
    run: Path, name: str, rows: list[dict[str, object]], schema: pa.Schema | None = None
) -> None:
    """Append them."""
    told = pa.Table.from_pylist(rows, schema=schema)
    write_deltalake(str(run / "lake" / name), told, mode="append")


@pytest.fixture
def finished_run(tmp_path: Path) -> Path:
    """Two users, two items, windows 3 to 6, two versions of which the first was promoted."""
    events = [("ann", "milk"), ("ann", "rye"), ("bob", "milk")]
    silver = [
        {"key": f"{n}", "user": user, "item": item, "time": MONDAY, "window": 3 + n, "landed": n}
        for n, (user, item) in enumerate(events)
    ]
    write(tmp_path, "silver", silver)
    aside = {"key": "x", "rule": "duplicate", "window": 4, "reingested": None}
    write(tmp_path, "quarantine", [aside], QUARANTINE)
    write(tmp_path, "bronze", [{"key": row["key"]} for row in silver] + [{"key": "x"}])
    kinds = [("item", "milk", 3), ("user", "ann", 3), ("item", "rye", 4), ("user", "bob", 5)]
    write(tmp_path, "vocabulary", [{"kind": k, "id": i, "window": w} for k, i, w in kinds])
    write(tmp_path, "items", [{"id": "milk", "brand": "Dale", "updated": MONDAY}])
    slate = {"items": ["rye", "milk"], "scores": [0.5, -1.0], "model_version": 1, "window": 6}
    write(tmp_path, "recommendations", [{"user": user, **slate} for user in ("ann", "bob")])
    sums = {"requests": 1, "precision@10": 0.1, "recall@10": 0.5}
    exam = [
        {"window": window, "scorer": scorer, "user": user, **sums}
        for window in (4, 6)
        for scorer in ("stale", "popularity", "candidate", "champion")
        for user in ("ann", "bob")
    ]
    write(tmp_path, "metrics", exam)
    summary = small_run()
    for window in summary.windows:
        write_window(window, tmp_path)
    write_report(summary, tmp_path)
    _versions(tmp_path)
    return tmp_path


def _versions(run: Path) -> None:
    store = Tracking(TrackingSettings(), run, "demo")
    files = run / "files"
    files.mkdir()
    size = {"sparsity": 0.5, "bytes": 2.5e6}
    versions = [store.log_version(window, files, metrics=size) for window in (3, 4)]
    judged = [window for window in small_run().windows if window.verdict]
    for version, window in zip(versions, judged, strict=True):
        store.log_scores(version, window.reports["candidate"], coverage=0.2)
        act = store.promote if window.verdict.promote else store.record_verdict
        act(version, window.verdict, window.window)


def executed(run: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The text and HTML that the notebook shows for a run folder."""
    monkeypatch.setenv("ALLUVIUM_RUN", str(run))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    where = {"metadata": {"path": str(NOTEBOOK.parent)}}
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources=where).execute()
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    shown = [data for out in outputs for data in out.get("data", {}).items()]
    return "\n".join(value for kind, value in shown if kind in ("text/html", "text/markdown"))


def test_notebook_tells_the_story_of_a_run(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = executed(finished_run, monkeypatch)
    assert "**4** increments, **2** judged before they were learned" in shown
    assert "4 rows landed = 3 in silver + 1 in quarantine" in shown
    assert "incremental model **0.1667**" in shown
    assert "version 1, **promoted**" in shown
    assert "**User ann**, version 1, after window 6" in shown
    assert "Dale" in shown


def test_notebook_counts_rows_that_were_re_ingested_once(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two rows of one event were turned away; one of them is in silver now."""
    settled = {"rule": "missing_user", "window": 4, "reingested": 1}
    write(finished_run, "quarantine", [{"key": key, **settled} for key in ("y", "z")], QUARANTINE)
    write(finished_run, "bronze", [{"key": "y"}, {"key": "z"}])
    event = {"key": "y", "user": "bob", "item": "rye", "time": MONDAY, "window": 4, "landed": -2}
    write(finished_run, "silver", [event])
    shown = executed(finished_run, monkeypatch)
    told = "6 rows landed = 3 in silver + 3 in quarantine (50.00%); 2 of them came to silver by"
    assert told in shown


def test_notebook_says_whose_runs_it_tells_of(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for summary in (finished_run / "windows").glob("*.json"):
        summary.unlink()
    with pytest.raises(CellExecutionError, match=r"must be of jobs/replay\.py, which writes down"):
        executed(finished_run, monkeypatch)


def test_notebook_is_stored_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
