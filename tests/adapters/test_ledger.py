from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from recsys_lib.adapters.lake import Lake
from recsys_lib.adapters.ledger import Ledger
from recsys_lib.adapters.upkeep import compact
from recsys_lib.errors import LakeError
from recsys_lib.settings import LakeSettings
from recsys_lib.types import Increment

FIRST, LONGER = Increment("bronze", 0, 5, rows=9), Increment("bronze", 0, 7, rows=12)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(str(tmp_path / "ledger"))


def meanwhile(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, action: Any) -> None:
    """`action` happens after the next process has looked into the ledger, and before it writes."""
    look = ledger._log

    def looked() -> Any:
        found = look()
        monkeypatch.undo()
        action()
        return found

    monkeypatch.setattr(ledger, "_log", looked)


def test_an_increment_that_another_process_opened_is_the_one_to_read(ledger: Ledger) -> None:
    assert ledger.open(FIRST, "clean") == FIRST
    assert ledger.open(LONGER, "clean") == FIRST
    assert len(ledger.rows()) == 1


@pytest.mark.parametrize("before", [[], [Increment("bronze", 0, 1)]])
def test_of_two_processes_that_open_at_once_one_is_refused(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, before: list[Increment]
) -> None:
    for read in before:
        ledger.write(read, "other", "read")
    meanwhile(ledger, monkeypatch, lambda: Ledger(ledger.path).open(FIRST, "clean"))
    with pytest.raises(LakeError, match="another process has just done so"):
        ledger.open(LONGER, "clean")
    assert ledger.position("bronze", "clean") == (FIRST, 0)


def test_the_slowest_of_all_readers_is_behind(ledger: Ledger) -> None:
    assert ledger.behind("bronze") is None
    for end, reader in ((5, "slow"), (9, "fast"), (7, "slow")):
        ledger.write(Increment("bronze", 0, end, last_window=end), reader, "read")
    ledger.open(Increment("bronze", 9, 12), "fast")
    assert ledger.behind("bronze") == 7
    assert ledger.recorded("bronze", "slow", 7) is not None
    assert ledger.recorded("bronze", "fast", 7) is None


def test_readers_open_at_once_without_harm(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger.write(FIRST, "other", "read")
    meanwhile(ledger, monkeypatch, lambda: Ledger(ledger.path).open(FIRST, "features"))
    assert ledger.open(LONGER, "clean") == LONGER


def test_what_another_process_has_read_to_its_end_is_not_opened_again(ledger: Ledger) -> None:
    ledger.write(LONGER, "clean", "read")
    with pytest.raises(LakeError, match=r"versions \[0, 5\) of bronze"):
        ledger.open(FIRST, "clean")
    assert ledger.position("bronze", "clean") == (None, 7)


def compacting(spark: SparkSession, tmp_path: Path) -> Lake:
    """A lake whose ledger is compacted with its fifth row."""
    lake = Lake(spark, str(tmp_path), LakeSettings(max_small_files=4))
    lake.append_once("bronze", spark.range(1), app="test", version=0)
    for number in range(4):
        lake.ledger.write(Increment("bronze", number, number + 1), "clean", "read")
    return lake


def test_the_ledger_stays_in_few_files_and_loses_no_row(
    spark: SparkSession, tmp_path: Path
) -> None:
    lake = compacting(spark, tmp_path)
    before = lake.ledger.rows()
    lake.mark_read(Increment("bronze", 4, 5, rows=7), "clean", window=3, counts={"silver": 1})
    assert lake.small_files("ledger") == 0
    assert lake.ledger.rows()[:4] == before
    assert len(lake.ledger.rows()) == 5
    again = Ledger(lake.ledger.path).recorded("bronze", "clean", 3)
    assert again is not None
    assert (again["rows"], again["counts"]) == (7, {"silver": 1})


def test_an_increment_is_opened_though_the_ledger_is_compacted_meanwhile(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = compacting(spark, tmp_path)
    meanwhile(lake.ledger, monkeypatch, lambda: lake.compact("ledger"))
    fresh = Increment("bronze", 4, 9)
    assert lake.ledger.open(fresh, "clean") == fresh
    assert len(lake.ledger.rows()) == 5
    assert lake.ledger.position("bronze", "clean") == (fresh, 4)


def test_of_two_compactions_at_once_one_is_given_up(spark: SparkSession, tmp_path: Path) -> None:
    lake = compacting(spark, tmp_path)
    with ThreadPoolExecutor(2) as both:
        list(both.map(lambda _: compact(spark, lake.path("ledger"), 1 << 30), range(2)))
    lake.mark_read(Increment("bronze", 4, 5), "clean")
    assert len(lake.ledger.rows()) == 5
