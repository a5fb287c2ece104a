"""Runs that many tests look at. Each training costs the start of the ranks, so there are few."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.jobs import shop
from tests.jobs.launch import Ended, run


@dataclass(frozen=True)
class Shop:
    """A made shop on disk: one log in three formats, an item table and a mapping."""

    folder: Path
    mapping: Path
    csv: Path
    jsonl: Path
    parquet: Path

    def replay_args(self, log: Path, out: Path, weeks: int = 1) -> list[object]:
        return ["--events", log, "--mapping", self.mapping, "--out", out, "--weeks", weeks]

    def shrinking_args(self, log: Path, out: Path) -> list[object]:
        """The same with one more step of learning that a kill may hit."""
        return [*self.replay_args(log, out), "--set", "compress.shrink=true"]


@dataclass(frozen=True)
class Finished:
    """A replay that nobody disturbed."""

    out: Path
    args: list[object]
    ended: Ended


@pytest.fixture(scope="session")
def made_shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """60 users, 120 items, 8 windows of 3 days, and 6 rows that nobody can use."""
    folder = tmp_path_factory.mktemp("shop")
    rows = shop.events()
    rows = [
        *rows,
        rows[0],
        rows[1],
        shop.event("x1", "", "i3", 1.5),
        shop.event("x2", "u3", "", 1.5),
        shop.event("x3", "u3", "i3", 1.5) | {"at": "yesterday"},
        shop.event("x4", "u3", "i3", -20_000),
    ]
    return Shop(
        folder=folder,
        mapping=shop.write_mapping(folder / "mapping.yaml", shop.write_items(folder / "items.csv")),
        csv=shop.write_csv(folder / "log.csv", rows),
        jsonl=shop.write_jsonl(folder / "log.jsonl", rows),
        parquet=shop.write_parquet(folder / "log.parquet", rows),
    )


@pytest.fixture(scope="session")
def finished(made_shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """History of four windows, one increment, and one window to judge the second version."""
    folder = tmp_path_factory.mktemp("finished")
    args = made_shop.shrinking_args(made_shop.csv, folder / "out")
    ended = run("replay", *args, log=folder / "replay")
    assert ended.code == 0, ended.said
    return Finished(folder / "out", args, ended)
