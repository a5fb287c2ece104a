"""Remote places, on fsspec's file system in memory: the words are those of hdfs://."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from recsys_lib.adapters import places
from recsys_lib.adapters.places import KEPT_DAYS, KeptFile, appended, cached, delivery, fetch, place


@pytest.fixture
def remote() -> str:
    return f"memory://{uuid.uuid4().hex}"


def test_a_remote_folder_speaks_as_a_path_does(remote: str) -> None:
    folder = place(f"{remote}/run/") / "windows"
    folder.mkdir(parents=True, exist_ok=True)
    assert list(folder.glob("*.json")) == []
    file = folder / "000007.json"
    part = file.with_suffix(".part")
    for text in ("old", "new"):
        part.write_text(text, encoding="utf-8")
        assert part.replace(file) == file
    assert file.exists()
    assert not part.exists()
    assert file.read_text() == "new"
    assert [found.name for found in folder.glob("*.json")] == ["000007.json"]


def test_a_local_place_is_a_path(tmp_path: Path) -> None:
    assert place(str(tmp_path / "run")) == tmp_path / "run"


def test_a_folder_is_delivered_whole_in_place_of_the_older_one(remote: str) -> None:
    for text in ("first", "second"):
        with delivery(f"{remote}/model") as folder:
            (Path(folder) / "deep").mkdir(parents=True)
            (Path(folder) / "deep" / text).write_text(text)
        there = Path(fetch(f"{remote}/model"))
        assert [file.name for file in (there / "deep").iterdir()] == [text]


def test_what_fails_is_not_delivered(remote: str) -> None:
    def failing() -> None:
        with delivery(f"{remote}/model") as folder:
            Path(folder).mkdir()
            raise ValueError

    with pytest.raises(ValueError):
        failing()
    with delivery(f"{remote}/model"):
        pass  # nothing was written
    assert not place(f"{remote}/model").exists()


class FailingDisk(MemoryFileSystem):
    """Takes a file after `failures` of them."""

    failures = 0

    def _open(self, path: str, mode: str = "rb", **told: Any) -> Any:
        if mode == "wb" and self.failures:
            FailingDisk.failures -= 1
            raise RuntimeError("Failed to complete file in time")
        return super()._open(path, mode, **told)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> type[FailingDisk]:
    disk = FailingDisk(skip_instance_cache=True)
    monkeypatch.setattr(places, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(places, "file_system", lambda uri: (disk, uri.removeprefix("memory:/")))
    return FailingDisk


@pytest.mark.parametrize("failures", [0, 2])
def test_a_file_that_storage_loses_is_written_again(
    failing: type[FailingDisk], failures: int, remote: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("kept")
    kept = KeptFile(f"{remote}/checkpoint")
    failing.failures = failures
    kept.put(tmp_path / "file")
    failing.failures = failures
    place(f"{remote}/note").write_text("noted")
    failing.failures = failures
    with delivery(f"{remote}/model") as folder:
        Path(folder).mkdir()
        (Path(folder) / "file").write_text("delivered")
    found = kept.get(tmp_path)
    assert found is not None
    assert found.read_text() == "kept"
    assert place(f"{remote}/note").read_text() == "noted"
    assert place(f"{remote}/model/file").read_text() == "delivered"


def test_storage_that_takes_nothing_is_an_error(failing: type[FailingDisk], remote: str) -> None:
    failing.failures = 3
    with pytest.raises(RuntimeError, match="in time"):
        place(f"{remote}/note").write_text("noted")


def test_a_local_folder_is_used_where_it_lies(tmp_path: Path) -> None:
    assert fetch(str(tmp_path)) == str(tmp_path)
    with delivery(str(tmp_path / "model")) as folder:
        assert folder == str(tmp_path / "model")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one, as YARN gives it."""
    monkeypatch.setenv("LOCAL_DIRS", str(tmp_path))
    return tmp_path / f"alluvium-models-{os.getuid()}"


def test_a_copy_that_is_asked_for_again_is_not_made_again(cache: Path) -> None:
    made = [cached(key, Path.mkdir) for key in ("one", "two")]

    def never(part: Path) -> None:
        raise AssertionError(part)

    assert [cached(key, never) for key in ("one", "two")] == made
    assert sorted(map(str, cache.iterdir())) == sorted(made)


def test_a_copy_that_fails_leaves_nothing_and_is_made_by_the_next_call(cache: Path) -> None:
    def failing(part: Path) -> None:
        part.mkdir()
        raise ValueError

    with pytest.raises(ValueError):
        cached("one", failing)
    assert list(cache.iterdir()) == []
    assert list(Path(cached("one", Path.mkdir)).iterdir()) == []


def test_copies_that_nobody_asks_for_go_when_another_is_made(cache: Path) -> None:
    unused, used = (cached(key, Path.mkdir) for key in ("unused", "used"))
    left_by_a_kill = cache / "half.part"
    left_by_a_kill.mkdir()
    past = time.time() - KEPT_DAYS * 86_400 - 1
    for folder in (unused, used, left_by_a_kill):
        os.utime(folder, (past, past))
    cached("used", Path.mkdir)
    fresh = cached("fresh", Path.mkdir)
    assert {str(folder) for folder in cache.iterdir()} == {used, fresh}


def test_a_log_grows_over_several_runs_even_failing_ones(remote: str) -> None:
    log = place(f"{remote}/ranks.log")

    def failing(text: str) -> None:
        with appended(log) as local, Path(local).open("a") as file:
            file.write(text)
            raise ValueError

    for text in ("one\n", "two\n"):
        with pytest.raises(ValueError):
            failing(text)
    assert log.read_text() == "one\ntwo\n"


@pytest.mark.parametrize("where", ["remote", "local"])
def test_a_kept_file_is_replaced_and_dropped(where: str, remote: str, tmp_path: Path) -> None:
    kept = KeptFile(f"{remote}/kept" if where == "remote" else str(tmp_path / "far" / "kept"))
    assert kept.get(tmp_path) is None
    for text in ("one", "two"):
        (tmp_path / "written").write_text(text)
        kept.put(tmp_path / "written")
    found = kept.get(tmp_path)
    assert found is not None
    assert found.read_text() == "two"
    kept.drop()
    kept.drop()
    assert kept.get(tmp_path) is None
