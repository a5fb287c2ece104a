from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from recsys_lib.adapters.lake import Lake
from recsys_lib.adapters.shards import dataset
from recsys_lib.adapters.upkeep import trim_log
from recsys_lib.errors import LakeError
from recsys_lib.settings import LakeSettings
from recsys_lib.types import Increment

ACTIONS = st.sampled_from(["append", "compact", "vacuum", "pin", "unpin", "read"])


def grown(spark: SparkSession, root: Path, commits: int, **options: int) -> Lake:
    lake = Lake(spark, str(root / "lake"), LakeSettings(**options))
    for number in range(commits):
        append(lake, number)
    return lake


def append(lake: Lake, number: int) -> None:
    rows = lake.spark.createDataFrame([(number, number % 3)], "id int, window int").coalesce(1)
    lake.append_once("t", rows, app="test", version=number)


def ids(lake: Lake, increment: Increment) -> list[int]:
    return sorted(row["id"] for row in lake.read(increment).select("id").collect())


def files(lake: Lake) -> set[str]:
    return {path.name for path in Path(lake.path("t")).glob("*.parquet")}


def forget(lake: Lake) -> None:
    """What Delta does to a log that is older than its retention."""
    DeltaTable(lake.path("t")).create_checkpoint()
    for commit in Path(lake.path("t"), "_delta_log").glob("0*.json"):
        if int(commit.stem) < lake.version("t"):
            commit.unlink()


def test_a_pinned_increment_outlives_compaction_vacuum_and_a_cleaned_log(
    spark: SparkSession, tmp_path: Path
) -> None:
    lake = grown(spark, tmp_path, 4)
    middle, whole = Increment("t", 1, 3), Increment("t", 0, 3)
    lake.pin(middle, "a")
    lake.pin(whole, "a")
    assert lake.compact("t")
    append(lake, 4)
    assert lake.vacuum("t", hours=0) == 1, "only the last of the four small files is not pinned"
    forget(lake)
    assert ids(lake, middle) == [1, 2]
    assert ids(lake, whole) == [0, 1, 2]
    assert sorted(row["id"] for row in lake.read("t", version=2).collect()) == [0, 1, 2]
    assert sorted(dataset(lake.path("t"), 2).to_table()["id"].to_pylist()) == [0, 1, 2]


def test_the_log_is_trimmed_up_to_what_is_young_and_what_a_reader_has_still_to_read(
    spark: SparkSession, tmp_path: Path
) -> None:
    lake = grown(spark, tmp_path, 5)
    first = lake.next_increment("t", "slow")
    assert first is not None
    lake.mark_read(first, "slow")
    log = Path(lake.path("t"), "_delta_log")
    for number in range(5, 8):
        append(lake, number)
        DeltaTable(lake.path("t")).create_checkpoint()
    assert trim_log(lake.path("t"), 24, unread=None) == 0, "all of it is young"
    lake.vacuum("t", hours=0)
    assert min(commit.stem for commit in log.glob("0*.json")) == f"{5:020}"
    assert ids(lake, Increment("t", 5, 8)) == [5, 6, 7]
    assert trim_log(lake.path("t"), 0, unread=None) > 0
    assert [commit.stem for commit in log.glob("0*.json")] == [f"{7:020}"]
    assert lake.read("t").count() == 8


def test_what_is_no_longer_pinned_is_deleted_and_told_so(
    spark: SparkSession, tmp_path: Path
) -> None:
    lake = grown(spark, tmp_path, 3)
    part = Increment("t", 1, 3)
    for by in ("a", "b"):
        lake.pin(part, by)
    lake.compact("t")
    lake.unpin("a")
    assert lake.vacuum("t", hours=0) == 1
    assert ids(lake, part) == [1, 2]
    lake.unpin("b")
    assert lake.vacuum("t", hours=0) == 2
    with pytest.raises(LakeError, match=r"2 of 2 files .* vacuumed .* pin an increment"):
        lake.read(part)
    with pytest.raises(LakeError, match="vacuumed"):
        lake.pin(part, "late")
    assert lake.pins.files(part) is None, "a pin that came too late is none"
    assert ids(lake, Increment("t", 0, 4)) == [0, 1, 2]


def test_what_a_reader_has_still_to_read_is_not_vacuumed(
    spark: SparkSession, tmp_path: Path
) -> None:
    lake = grown(spark, tmp_path, 2)
    for reader in ("fast", "slow"):
        first = lake.next_increment("t", reader)
        assert first is not None
        lake.mark_read(first, reader)
    append(lake, 2)
    append(lake, 3)
    ahead = lake.next_increment("t", "fast")
    assert ahead is not None
    lake.mark_read(ahead, "fast")
    lake.compact("t")
    assert lake.vacuum("t", hours=0) == 2
    behind = lake.next_increment("t", "slow")
    assert behind is not None
    assert ids(lake, behind) == [2, 3]
    lake.vacuum("t", hours=0)
    assert ids(lake, behind) == [2, 3], "opened, not read: still needed"
    lake.mark_read(behind, "slow")
    assert lake.vacuum("t", hours=0) == 2


@pytest.mark.parametrize("reader", ["features", "features:7"])
def test_the_table_as_a_reader_began_with_it_is_kept_until_it_has_read_it(
    spark: SparkSession, tmp_path: Path, reader: str
) -> None:
    lake = grown(spark, tmp_path, 2)
    first = Increment("t", 0, 2)
    lake.mark_read(Increment("t", 0, 1), "features", window=5)
    if ":" in reader:  # nothing is new, but what was read before is due
        lake.mark_read(first, "features", window=6)
        first = Increment("t", 2, 2)
    lake.ledger.write(first, reader, "open", window=7)
    append(lake, 2)
    DeltaTable(lake.path("t")).create_checkpoint()
    lake.compact("t")
    lake.vacuum("t", hours=0)
    assert sorted(row["id"] for row in lake.read("t", version=1).collect()) == [0, 1]
    lake.mark_read(first, "features", window=7)
    assert lake.vacuum("t", hours=0) == 2, "the third is still to be read"


def test_a_compaction_alone_is_no_increment(spark: SparkSession, tmp_path: Path) -> None:
    lake = grown(spark, tmp_path, 2)
    first = lake.next_increment("t", "r")
    assert first is not None
    lake.mark_read(first, "r")
    lake.compact("t")
    assert lake.next_increment("t", "r") is None
    append(lake, 2)
    second = lake.next_increment("t", "r")
    assert second is not None
    assert (second.rows, ids(lake, second)) == (1, [2])


def test_many_small_files_are_joined_when_they_have_been_read(
    spark: SparkSession, tmp_path: Path
) -> None:
    lake = grown(spark, tmp_path, 4, max_small_files=3)
    assert lake.small_files("t") == 4
    first = lake.next_increment("t", "r")
    assert first is not None
    lake.mark_read(first, "r")
    assert lake.small_files("t") == 0
    assert len(DeltaTable(lake.path("t")).file_uris()) == 1
    assert ids(lake, first) == [0, 1, 2, 3]


def test_young_files_survive_a_vacuum(spark: SparkSession, tmp_path: Path) -> None:
    lake = grown(spark, tmp_path, 3)
    lake.compact("t")
    stray = Path(lake.path("t"), "part-of-a-write-that-goes-on.parquet")
    shutil.copy(next(Path(lake.path("t")).glob("*.parquet")), stray)
    before = files(lake)
    assert lake.vacuum("t", hours=1) == 0
    assert files(lake) == before


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(actions=st.lists(ACTIONS, min_size=4, max_size=10), picks=st.randoms(use_true_random=False))
def test_whatever_happens_a_pinned_read_stays_the_same(
    spark: SparkSession, tmp_path: Path, actions: list[str], picks: object
) -> None:
    lake = grown(spark, tmp_path / str(time.monotonic_ns()), 3)
    count, pinned = 3, {}
    for action in actions:
        latest = lake.version("t")
        if action == "append":
            append(lake, count)
            count += 1
        elif action == "compact":
            lake.compact("t")
        elif action == "vacuum":
            lake.vacuum("t", hours=0)
        elif action == "pin":
            start = picks.randint(0, latest)  # type: ignore[attr-defined]
            part = Increment("t", start, picks.randint(start + 1, latest + 1))  # type: ignore[attr-defined]
            try:
                lake.pin(part, f"by {len(pinned)}")
            except LakeError:
                continue  # it was vacuumed before
            pinned[f"by {len(pinned)}"] = part, ids(lake, part)
        elif action == "unpin" and pinned:
            lake.unpin(pinned.popitem()[0])
        for part, rows in pinned.values():
            assert ids(lake, part) == rows
    assert ids(lake, Increment("t", 0, lake.version("t") + 1)) == list(range(count))
