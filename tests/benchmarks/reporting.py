"""How every benchmark reports: one JSON of fixed keys, and a table to read."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import psutil

FOLDER = Path("build/benchmarks")


def write_report(
    name: str,
    *,
    short: bool,
    data: str,
    settings: dict[str, Any],
    rows: list[dict[str, Any]],
    ratios: dict[str, Any],
    **more: Any,
) -> Path:
    """build/benchmarks/NAME.json; a short form says so and has a file of its own."""
    report = {
        "name": f"{name}, SHORT: too small to judge by" if short else name,
        "commit": commit(),
        "machine": machine(),
        "data": data,
        "settings": settings,
        "rows": rows,
        "ratios": ratios,
        **more,
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / (f"{name}-short.json" if short else f"{name}.json")
    part = path.with_suffix(".part")
    part.write_text(json.dumps(report, indent=1))
    part.replace(path)
    return path


def commit() -> str:
    """Of the tree that was measured; `unknown` where no Git tells."""
    try:
        command = ["git", "rev-parse", "HEAD"]
        found = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


def machine() -> dict[str, Any]:
    memory = round(psutil.virtual_memory().total / (1 << 30))
    return {"cores": os.cpu_count(), "memory_gib": memory, "load": os.getloadavg()[0]}


def table(rows: list[dict[str, Any]], columns: list[str]) -> str:
    """A Markdown table; what a row does not have stays empty."""
    cells = [[_cell(row.get(name, "")) for name in columns] for row in rows]
    widths = [
        max(map(len, (name, *column)))
        for name, column in zip(columns, zip(*cells, strict=True), strict=True)
    ]
    lines = [columns, ["-" * width for width in widths], *cells]
    return "\n".join(
        "| "
        + " | ".join(_aligned(c, w, i) for i, (c, w) in enumerate(zip(line, widths, strict=True)))
        + " |"
        for line in lines
    )


def _cell(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _aligned(cell: str, width: int, column: int) -> str:
    return cell.rjust(width) if column else cell.ljust(width)
