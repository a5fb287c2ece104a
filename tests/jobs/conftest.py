"""Runs that many tests look at. Each training costs the start of the ranks, so there are few, and
the processes of `make test` share them."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
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


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Whoever comes second waits for the first; a process that died has let go."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder of all processes that test now."""
    mine = tmp_path_factory.getbasetemp()
    return mine if worker_id == "master" else mine.parent


@pytest.fixture(scope="session")
def made_shop(shared: Path) -> Shop:
    """60 users, 120 items, 8 windows of 3 days, and 6 rows that nobody can use."""
    folder = shared / "shop"
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
    made = Shop(
        folder=folder,
        mapping=folder / "mapping.yaml",
        csv=folder / "log.csv",
        jsonl=folder / "log.jsonl",
        parquet=folder / "log.parquet",
    )
    with _alone(shared / "shop.lock"):
        if not made.mapping.exists():
            folder.mkdir(exist_ok=True)
            shop.write_csv(made.csv, rows)
            shop.write_jsonl(made.jsonl, rows)
            shop.write_parquet(made.parquet, rows)
            shop.write_mapping(made.mapping, shop.write_items(folder / "items.csv"))
    return made


@pytest.fixture(scope="session")
def finished(made_shop: Shop, shared: Path) -> Finished:
    """History of four windows, one increment, and one window to judge the second version."""
    folder = shared / "finished"
    args = made_shop.shrinking_args(made_shop.csv, folder / "out")
    told = folder / "ended.json"
    with _alone(shared / "finished.lock"):
        if not told.exists():
            folder.mkdir(exist_ok=True)
            ended = run("replay", *args, log=folder / "replay")
            assert ended.code == 0, ended.said
            told.write_text(json.dumps(asdict(ended)))
    return Finished(folder / "out", args, Ended(**json.loads(told.read_text())))
