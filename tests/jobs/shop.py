"""A made shop with planted habits, in any format, dirty where a test wants it to be."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

START = datetime(2024, 1, 1, tzinfo=UTC)
DAYS = 3
COLUMNS = ("event_id", "visitor", "product", "action", "at", "price")
Row = dict[str, Any]


def events(users: int = 60, items: int = 120, windows: int = 8, seed: int = 1) -> list[Row]:
    """Everybody has four favourites and buys most of them in most windows, after a look.

    The last tenth of the items is new in the second half. Rows come in no order.
    """
    rng = random.Random(seed)
    rows: list[Row] = []
    for user in range(users):
        favourites = rng.sample(range(items * 9 // 10), 4)
        for window in range(windows):
            if rng.random() < 0.2:
                continue
            shelf = items if window >= windows // 2 else items * 9 // 10
            basket = [i for i in favourites if rng.random() < 0.8]
            basket = [*basket, min(rng.randrange(shelf), rng.randrange(shelf))]
            for item in basket:
                rows = [*rows, *_visit(rng, f"u{user}", f"i{item}", window)]
    rng.shuffle(rows)
    return [{"event_id": f"e{number}", **row} for number, row in enumerate(rows)]


def event(number: str, user: Any, item: Any, day: float, action: str = "buy") -> Row:
    """One row by hand; `day` counts from the shop's first midnight."""
    when = (START + timedelta(days=day)).strftime("%Y-%m-%d %H:%M:%S")
    return dict(zip(COLUMNS, (number, user, item, action, when, 1.5), strict=True))


def _visit(rng: random.Random, user: str, item: str, window: int) -> list[Row]:
    seconds = rng.randrange(DAYS * 86_400 - 600)
    look = START + timedelta(days=DAYS * window, seconds=seconds)
    facts = {"visitor": user, "product": item, "price": round(rng.uniform(1, 9), 2)}
    times = {"view": look, "buy": look + timedelta(seconds=rng.randrange(60, 600))}
    return [
        {**facts, "action": action, "at": when.strftime("%Y-%m-%d %H:%M:%S")}
        for action, when in times.items()
    ]


def write_csv(path: Path, rows: Iterable[Row], lines: Sequence[str] = ()) -> Path:
    """`lines` are added as they are."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        file.writelines(f"{line}\n" for line in lines)
    return path


def write_jsonl(path: Path, rows: Iterable[Row]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def write_parquet(path: Path, rows: Sequence[Row]) -> Path:
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


def write_items(path: Path, items: int = 120) -> Path:
    """An attribute table; it knows items that are never sold, and lacks one that is."""
    lines = [f"i{i},shelf {i % 7},{'big' if i % 2 else 'small'}\n" for i in range(1, items + 5)]
    path.write_text("product_id,shelf,size\n" + "".join(lines))
    return path


def write_mapping(path: Path, items: Path | None = None, **changes: Any) -> Path:
    values = {
        "name": "made_shop",
        "user": "visitor",
        "item": "product",
        "type": "action",
        "time": {"timestamp": "at"},
        "id": "event_id",
        "value": "price",
        "windows": {"start": "2024-01-01T00:00:00", "days": DAYS, "history": 4},
        "task": "next_window",
        "targets": ["buy"],
        **changes,
    }
    if items is not None:
        attributes = {"shelf": "shelf", "size": "size"}
        table = {"path": str(items), "id": "product_id", "attributes": attributes}
        values = {**values, "items": table}
    path.write_text(yaml.safe_dump(values))
    return path
