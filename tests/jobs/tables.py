"""Look at a run folder from outside, without Spark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow
import pyarrow as pa
from deltalake import DeltaTable

TABLES = (
    "bronze",
    "silver",
    "quarantine",
    "items",
    "vocabulary",
    "item_features",
    "item_counts",
    "item_returns",
    "sequences",
    "histories",
    "neighbours",
    "metrics",
    "recommendations",
)
CLOCKS = ("arrived", "updated", "batch")


def table(out: Path, name: str) -> pa.Table:
    return DeltaTable(out / "lake" / name).to_pyarrow_table()


def rows(out: Path, name: str, *, without: tuple[str, ...] = CLOCKS) -> list[dict[str, Any]]:
    """All rows in an order of their own, without what a clock wrote."""
    found = table(out, name)
    kept = found.drop_columns([c for c in without if c in found.column_names]).to_pylist()
    return sorted(kept, key=lambda row: json.dumps(row, sort_keys=True, default=str))


def versions(out: Path) -> dict[str, int]:
    """Delta version of every table, the ledger too."""
    folders = sorted(path.parent for path in (out / "lake").glob("*/_delta_log"))
    return {folder.name: DeltaTable(folder).version() for folder in folders}


def counts(out: Path) -> dict[str, int]:
    return {name: table(out, name).num_rows for name in versions(out)}


def report(out: Path) -> dict[str, Any]:
    return dict(json.loads((out / "report.json").read_text()))


def windows(out: Path) -> dict[int, dict[str, Any]]:
    return {window["window"]: window for window in report(out)["windows"]}


def means(out: Path) -> dict[tuple[int, str, str], float]:
    """(window, scorer, metric) -> value."""
    return {
        (number, scorer, metric): found["value"]
        for number, window in windows(out).items()
        for scorer, exam in window["reports"].items()
        for metric, found in exam["metrics"].items()
    }


def client(out: Path) -> mlflow.MlflowClient:
    store = f"sqlite:///{out / 'mlflow.db'}"
    return mlflow.MlflowClient(tracking_uri=store, registry_uri=store)


def model_versions(out: Path) -> list[Any]:
    found = client(out).search_model_versions("name = 'alluvium'")
    return sorted(found, key=lambda version: int(version.version))
