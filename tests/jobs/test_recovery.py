from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.jobs import tables
from tests.jobs.conftest import Finished, Shop
from tests.jobs.launch import Job, run

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Disturbed:
    """A replay that was killed at `points` before it came to its end."""

    out: Path
    points: list[str]


def _points(out: Path) -> dict[str, Callable[[], bool]]:
    """Moments that leave something half done, in the order in which a replay meets them."""
    lake, log = out / "lake", out / "alluvium.log"

    def says(text: str) -> bool:
        return log.exists() and text in log.read_text()

    def started(ranks_log: Path) -> bool:
        return ranks_log.exists() and "ranks are here" in ranks_log.read_text()

    return {
        "while the log is cut": (out / "landing" / "staging.unfinished").exists,
        "landed but not cleaned": (lake / "bronze" / "_delta_log" / f"{0:020d}.json").exists,
        "while the first model learns": lambda: started(out / "ranks.log"),
        "before the next window has sequences": (
            lake / "silver" / "_delta_log" / f"{1:020d}.json"
        ).exists,
        "while a window is scored": lambda: says("window 4: score"),
        "while a version is registered": lambda: len([*(out / "mlartifacts").glob("*")]) == 2,
        "while slates are written": lambda: says(": recommend"),
    }


@pytest.fixture(scope="module")
def disturbed(made_shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Disturbed:
    folder = tmp_path_factory.mktemp("disturbed")
    out = folder / "out"
    args = made_shop.shrinking_args(made_shop.csv, out)
    killed: list[str] = []
    for point, happens in _points(out).items():
        job = Job("replay", *args, log=folder / "killed")
        if not job.kill_when(happens):
            pytest.fail(f"not killed {point}: {job.wait().said}")
        killed = [*killed, point]
    ended = run("replay", *args, log=folder / "last")
    assert ended.code == 0, ended.said
    return Disturbed(out, killed)


@pytest.mark.parametrize("name", tables.TABLES)
def test_run_killed_at_many_points_ends_with_the_same_table(
    name: str, finished: Finished, disturbed: Disturbed
) -> None:
    theirs, ours = (tables.rows(run.out, name) for run in (finished, disturbed))
    assert len(ours) == len(theirs)
    assert ours == theirs


def test_run_killed_at_many_points_measures_the_same(
    finished: Finished, disturbed: Disturbed
) -> None:
    theirs, ours = tables.means(finished.out), tables.means(disturbed.out)
    assert len(ours) > 100
    assert ours == pytest.approx(theirs, abs=5e-4, nan_ok=True)


def test_run_killed_at_many_points_registers_each_version_once(
    finished: Finished, disturbed: Disturbed
) -> None:
    def told(out: Path) -> list[tuple[str, str, str, str | None]]:
        return [
            (v.version, v.tags["window"], v.tags["parent"], v.tags.get("verdict"))
            for v in tables.model_versions(out)
        ]

    assert told(disturbed.out) == told(finished.out)
    client = tables.client(disturbed.out)
    experiment = client.get_experiment_by_name("alluvium")
    assert len(client.search_runs([experiment.experiment_id])) == 2


def test_run_killed_at_many_points_reports_the_windows_of_all_attempts(
    finished: Finished, disturbed: Disturbed
) -> None:
    def counted(out: Path) -> list[list[object]]:
        names = ("window", "rows", "kept", "quarantined", "items", "users", "learned", "note")
        return [[window[name] for name in names] for window in tables.windows(out).values()]

    assert counted(disturbed.out) == counted(finished.out)
