from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recsys_lib.adapters.ledger import Ledger
from recsys_lib.errors import LakeError
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


def test_readers_open_at_once_without_harm(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger.write(FIRST, "other", "read")
    meanwhile(ledger, monkeypatch, lambda: Ledger(ledger.path).open(FIRST, "features"))
    assert ledger.open(LONGER, "clean") == LONGER


def test_what_another_process_has_read_to_its_end_is_not_opened_again(ledger: Ledger) -> None:
    ledger.write(LONGER, "clean", "read")
    with pytest.raises(LakeError, match=r"versions \[0, 5\) of bronze"):
        ledger.open(FIRST, "clean")
    assert ledger.position("bronze", "clean") == (None, 7)
