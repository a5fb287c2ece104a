from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from recsys_lib.adapters.lake import Lake
from recsys_lib.adapters.sources.files import identity, read_log
from recsys_lib.adapters.sources.replay import ReplayFolder
from recsys_lib.adapters.sources.stream import land
from recsys_lib.errors import SettingsError, SourceError
from recsys_lib.ingest.bronze import SCHEMA
from recsys_lib.ingest.recipe import stage
from recsys_lib.mapping import Mapping
from recsys_lib.settings import CleanSettings, IngestSettings

MAPPING = Mapping.model_validate(
    {
        "name": "shop",
        "user": "user",
        "item": "item",
        "time": {"timestamp": "time"},
        "windows": {"history": 1, "days": 1},
    }
)
LOG = "user,item,time\n1,a,2020-01-01\n2,b,2020-01-02\n2,b,soon\n3,c,2020-01-04\nbroken\n"


@pytest.fixture
def replay(spark: SparkSession, tmp_path: Path) -> ReplayFolder:
    (tmp_path / "log.csv").write_text(LOG)
    return ReplayFolder(spark, str(tmp_path / "replay"))


def staged(replay: ReplayFolder, tmp_path: Path, mapping: Mapping = MAPPING):  # type: ignore[no-untyped-def]
    def read(path: str):  # type: ignore[no-untyped-def]
        return read_log(replay.spark, path)

    return stage(replay, read, str(tmp_path / "log.csv"), mapping, CleanSettings(), identity)


def test_a_log_lands_window_by_window_and_no_row_twice(
    spark: SparkSession, lake: Lake, replay: ReplayFolder, tmp_path: Path
) -> None:
    manifest = staged(replay, tmp_path)
    assert (manifest.windows, manifest.unknown, manifest.rows) == ({0: 1, 1: 1, 3: 1}, 2, 5)

    def landed() -> int:
        land(spark, lake, replay.inbox, SCHEMA, IngestSettings())
        return lake.read("bronze").count()

    replay.release([0])
    assert landed() == 3, "rows without a time come with the first window"
    assert landed() == 3
    replay.release([0])  # nothing is moved
    replay.release([2])  # a window without rows
    assert landed() == 3
    replay.release([1, 3])
    assert landed() == 5
    unreadable = lake.read("bronze").where("rejected = 'unreadable'").collect()
    assert [row["payload"] for row in unreadable] == ["broken"]


def test_a_batch_whose_write_was_killed_before_its_checkpoint_is_not_written_twice(
    spark: SparkSession, lake: Lake, replay: ReplayFolder, tmp_path: Path
) -> None:
    staged(replay, tmp_path)
    replay.release([0])
    land(spark, lake, replay.inbox, SCHEMA, IngestSettings())
    commits = list((tmp_path / "lake" / "_checkpoints" / "bronze" / "commits").glob("*0*"))
    assert commits, "the stream's note that batch 0 is done"
    for commit in commits:
        commit.unlink()
    land(spark, lake, replay.inbox, SCHEMA, IngestSettings())
    assert lake.read("bronze").count() == 3


def test_staging_is_done_once_and_after_a_kill_again(replay: ReplayFolder, tmp_path: Path) -> None:
    first = staged(replay, tmp_path)
    (tmp_path / "log.csv").unlink()
    assert staged(replay, tmp_path) == first, "the log is not looked at again"
    (tmp_path / "replay" / "staging" / "_manifest.json").unlink()
    (tmp_path / "log.csv").write_text(LOG)
    assert staged(replay, tmp_path) == first, "without a manifest the cut was not finished"


def test_a_mapping_that_does_not_fit_stages_nothing(replay: ReplayFolder, tmp_path: Path) -> None:
    wrong = MAPPING.model_copy(update={"user": "usr", "item": "itm"})
    with pytest.raises(SettingsError, match=r"(?s)shop: 2 faults.*'user'.*'item'"):
        staged(replay, tmp_path, wrong)
    assert replay.manifest() is None


def test_a_log_without_one_readable_time_says_what_came(
    replay: ReplayFolder, tmp_path: Path
) -> None:
    (tmp_path / "log.csv").write_text("user,item,time\n1,a,1/31/2020\n")
    with pytest.raises(SourceError, match=r"none of 1 rows has a usable time.*'1/31/2020'"):
        staged(replay, tmp_path)
    assert replay.manifest() is None


def test_another_mapping_does_not_mix_into_a_run(replay: ReplayFolder, tmp_path: Path) -> None:
    staged(replay, tmp_path)
    with pytest.raises(SourceError, match=r"another run.out"):
        staged(replay, tmp_path, MAPPING.model_copy(update={"name": "other"}))


def test_another_or_a_longer_log_is_not_taken_for_the_one_that_was_staged(
    replay: ReplayFolder, tmp_path: Path
) -> None:
    first = staged(replay, tmp_path)
    (tmp_path / "log.csv").write_text(LOG)
    assert staged(replay, tmp_path) == first, "copied anew"
    for other in (f"{LOG}4,d,2020-01-05\n", LOG.replace("3,c", "4,c")):
        (tmp_path / "log.csv").write_text(other)
        with pytest.raises(SourceError, match=r"log\.csv is another log .*another --out"):
            staged(replay, tmp_path)
    manifest = tmp_path / "replay" / "staging" / "_manifest.json"
    told = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({name: told[name] for name in told if name != "log"}))
    assert staged(replay, tmp_path) == dataclasses.replace(first, log=None), "as older versions did"


def test_a_folder_is_the_same_log_wherever_it_lies(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "part").mkdir(parents=True)
        (tmp_path / name / "part" / "a.csv").write_text(LOG)
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    assert identity(one) == identity(two) is not None
    (tmp_path / "two" / "b.csv").write_text(LOG)
    assert identity(one) != identity(two)
    assert identity(str(tmp_path / "none")) is None
    assert identity("package:no_such_package/log.csv") is None
