from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.jobs import shop, tables
from tests.jobs.conftest import Shop
from tests.jobs.launch import Ended, run

pytestmark = pytest.mark.slow

Case = Callable[[Shop, Path], list[object]]


def truncated_parquet(made: Shop, folder: Path) -> list[object]:
    (folder / "cut.parquet").write_bytes(made.parquet.read_bytes()[:5000])
    return made.replay_args(folder / "cut.parquet", folder / "out")


def damaged_parquet(made: Shop, folder: Path) -> list[object]:
    """The footer is whole, so that only reading the pages finds it out."""
    bytes_ = bytearray(made.parquet.read_bytes())
    bytes_[200:4000] = bytes(3800)
    (folder / "damaged.parquet").write_bytes(bytes_)
    return made.replay_args(folder / "damaged.parquet", folder / "out")


def missing_log(made: Shop, folder: Path) -> list[object]:
    return made.replay_args(folder / "nowhere.csv", folder / "out")


def missing_mapping(made: Shop, folder: Path) -> list[object]:
    return ["--events", made.csv, "--mapping", folder / "no.yaml", "--out", folder / "out"]


def missing_columns(made: Shop, folder: Path) -> list[object]:
    mapping = shop.write_mapping(folder / "m.yaml", user="visitr", value="prise")
    return ["--events", made.csv, "--mapping", mapping, "--out", folder / "out"]


def unknown_mapping_key(made: Shop, folder: Path) -> list[object]:
    mapping = shop.write_mapping(folder / "m.yaml", usr="visitor")
    return ["--events", made.csv, "--mapping", mapping, "--out", folder / "out"]


def unknown_setting(made: Shop, folder: Path) -> list[object]:
    sets = ["--set", "train.epoch=1", "--set", "gate.confidence=high"]
    return [*made.replay_args(made.csv, folder / "out"), *sets]


def long_history(made: Shop, folder: Path) -> list[object]:
    windows = {"start": "2024-01-01", "days": 3, "history": 9}
    mapping = shop.write_mapping(folder / "m.yaml", windows=windows)
    return ["--events", made.csv, "--mapping", mapping, "--out", folder / "out"]


def unknown_targets(made: Shop, folder: Path) -> list[object]:
    """Nobody buys what the mapping asks to predict."""
    mapping = shop.write_mapping(folder / "m.yaml", targets=["purchase"])
    return ["--events", made.csv, "--mapping", mapping, "--out", folder / "out"]


def times_not_read(made: Shop, folder: Path) -> list[object]:
    mapping = shop.write_mapping(folder / "m.yaml", time={"timestamp": "product"})
    return ["--events", made.csv, "--mapping", mapping, "--out", folder / "out"]


def empty_log(made: Shop, folder: Path) -> list[object]:
    return made.replay_args(shop.write_csv(folder / "empty.csv", []), folder / "out")


def missing_item_table(made: Shop, folder: Path) -> list[object]:
    mapping = shop.write_mapping(folder / "m.yaml", folder / "gone.csv", user="visitr")
    return ["--events", made.csv, "--mapping", mapping, "--out", folder / "out"]


ERRORS: list[tuple[Case, list[str]]] = [
    (truncated_parquet, ["cut.parquet", "not a readable Parquet file"]),
    (damaged_parquet, ["damaged.parquet", "cannot be read"]),
    (missing_log, ["nowhere.csv", "no such file"]),
    (missing_mapping, ["no.yaml", "cannot be read"]),
    (
        missing_columns,
        ["'visitr'; did you mean 'visitor'?", "did you mean 'price'?", "2 faults"],
    ),
    (unknown_mapping_key, ["usr: unknown key; did you mean 'user'?"]),
    (unknown_setting, ["train.epoch", "did you mean 'epochs'", "gate.confidence", "2 faults"]),
    (long_history, ["windows.history must be at most 8", "got 9"]),
    (unknown_targets, ["['purchase']", "['buy', 'view']"]),
    (times_not_read, ["usable time", "time.timestamp"]),
    (empty_log, ["no rows"]),
    (missing_item_table, ["items.path:", "gone.csv", "no such file", "'visitor'?", "2 faults"]),
]


@pytest.mark.parametrize(("case", "words"), ERRORS, ids=[case.__name__ for case, _ in ERRORS])
def test_what_cannot_work_is_one_message_and_code_2(
    case: Case, words: list[str], made_shop: Shop, tmp_path: Path
) -> None:
    ended = run("replay", *case(made_shop, tmp_path), log=tmp_path / "replay")
    assert_one_message(ended, words)


def test_stage_in_a_folder_without_a_run_says_so(tmp_path: Path) -> None:
    ended = run("evaluate", "--out", tmp_path, "--window", 4, log=tmp_path / "evaluate")
    assert_one_message(ended, [str(tmp_path), "--out"])


def assert_one_message(ended: Ended, words: list[str]) -> None:
    assert ended.code == 2, ended.said
    assert ended.said.strip().startswith("error: "), ended.said
    assert "Traceback" not in ended.said
    assert ended.said.count("error:") == 1, ended.said
    for word in words:
        assert word in ended.said


@pytest.fixture(scope="module")
def dirty(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    """Windows of three days; history 0..3. Nobody comes in 4, only strangers in 5, all in 6; the
    log ends with window 6, but nine increments are asked for."""
    folder = tmp_path_factory.mktemp("dirty")
    known = [row for row in shop.events(users=40, windows=7) if not "13" <= row["at"][8:10] <= "18"]
    strangers = [
        shop.event(f"s{number}", f"s{number}", f"i{number % 5}", 15.5) for number in range(30)
    ]
    odd = [
        shop.event("once", "once", "i7", 1.0),
        shop.event("odd1", "u1", "i1", 2.0, action="teleported"),
        shop.event("odd2", "u2", "i2", 2.0, action=""),
        shop.event("no-user", None, "i2", 2.0),
        shop.event("no-item", "u2", None, 18.5),
        shop.event("no-time", "u2", "i2", 2.0) | {"at": None},
        shop.event("future", "u2", "i2", 40_000.0),
        shop.event("again", "u2", "i2", 19.0),
        shop.event("again", "u2", "i2", 19.0),
    ]
    broken = ["b1,u1", "b2,u1,i1,buy,2024-01-02 10:00:00,3,too,many"]
    log = shop.write_csv(folder / "log.csv", [*known, *strangers, *odd], broken)
    mapping = shop.write_mapping(folder / "m.yaml", shop.write_items(folder / "items.csv"))
    args = ["--events", log, "--mapping", mapping, "--out", folder / "out", "--weeks", 9]
    ended = run("replay", *args, log=folder / "replay")
    assert ended.code == 0, ended.said
    return folder / "out", ended


def test_rows_that_cannot_be_used_go_to_quarantine_with_a_reason(
    dirty: tuple[Path, Ended],
) -> None:
    found: dict[str, int] = {}
    for row in tables.rows(dirty[0], "quarantine"):
        found = {**found, row["rule"]: found.get(row["rule"], 0) + 1}
    assert found == {
        "unreadable": 2,
        "missing_user": 1,
        "missing_item": 1,
        "bad_time": 1,
        "future": 1,
        "duplicate": 1,
    }
    unreadable = [r for r in tables.rows(dirty[0], "quarantine") if r["rule"] == "unreadable"]
    assert sorted(row["payload"][:5] for row in unreadable) == ["b1,u1", "b2,u1"]


def test_empty_window_is_a_visible_skip(dirty: tuple[Path, Ended]) -> None:
    window = tables.windows(dirty[0])[4]
    assert (window["rows"], window["learned"], window["reports"]) == (0, None, {})
    assert "empty window" in window["note"]
    assert "empty window" in dirty[1].out


def test_window_of_strangers_is_a_visible_skip(dirty: tuple[Path, Ended]) -> None:
    window = tables.windows(dirty[0])[5]
    assert (window["rows"], window["users"], window["reports"]) == (30, 30, {})
    assert "nobody to judge" in window["note"]
    assert "nobody to judge" in dirty[1].out


def test_log_that_is_shorter_than_asked_is_learned_to_its_end(dirty: tuple[Path, Ended]) -> None:
    windows = tables.windows(dirty[0])
    assert "--weeks 9: the log holds 3 windows after its history" in dirty[1].out
    assert list(windows) == [3, 4, 5, 6]
    assert windows[6]["reports"]["candidate"]["users"] > 20
    assert windows[6]["learned"] is not None


def test_event_types_nobody_named_are_words_like_others(dirty: tuple[Path, Ended]) -> None:
    types = {row["id"] for row in tables.rows(dirty[0], "vocabulary") if row["kind"] == "type"}
    assert types == {"view", "buy", "teleported", "unknown"}


def test_user_with_one_event_gets_a_slate_too(dirty: tuple[Path, Ended]) -> None:
    slates = {row["user"]: row["items"] for row in tables.rows(dirty[0], "recommendations")}
    assert len(slates["once"]) == 20
