"""Mappings: one YAML file says what the columns of a log mean, or why it cannot be used."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from recsys_lib.errors import SettingsError
from recsys_lib.mapping import load_mapping

MAPPINGS = sorted((Path(__file__).parents[1] / "conf" / "mappings").glob("*.yaml"))

SMALL = "user: u\nitem: i\ntime: {timestamp: t}\nwindows: {history: 2}\n"


def written(folder: Path, text: str) -> Path:
    file = folder / "shop.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def faults_of(folder: Path, text: str) -> list[str]:
    with pytest.raises(SettingsError) as error:
        load_mapping(written(folder, text))
    return error.value.faults


@pytest.mark.parametrize("file", MAPPINGS, ids=lambda file: file.stem)
def test_every_mapping_in_conf_is_valid(file: Path) -> None:
    assert load_mapping(file).name == file.stem


def test_user_item_time_and_history_are_enough(tmp_path: Path) -> None:
    mapping = load_mapping(written(tmp_path, SMALL))
    assert (mapping.user, mapping.item, mapping.time.timestamp) == ("u", "i", "t")
    assert mapping.type == "'event'"
    assert mapping.windows.days == 7
    assert mapping.task == "next_window"
    assert (mapping.items, mapping.users, mapping.rejects) == (None, None, {})


def test_the_first_day_needs_no_quotes(tmp_path: Path) -> None:
    text = SMALL.replace("history: 2", "history: 2, start: 2026-01-05")
    assert load_mapping(written(tmp_path, text)).windows.start == "2026-01-05"


def test_a_mapping_is_frozen(tmp_path: Path) -> None:
    mapping = load_mapping(written(tmp_path, SMALL))
    with pytest.raises(ValidationError, match="frozen"):
        mapping.user = "other"


@pytest.mark.parametrize(
    ("time", "got"),
    [
        ("{}", "none"),
        ("{unit: ms}", "none"),
        ("{timestamp: t, epoch: e}", "['timestamp', 'epoch']"),
        ("{timestamp: t, epoch: e, period: p}", "['timestamp', 'epoch', 'period']"),
    ],
)
def test_time_needs_exactly_one_kind(tmp_path: Path, time: str, got: str) -> None:
    [fault] = faults_of(tmp_path, SMALL.replace("{timestamp: t}", time))
    assert f"name exactly one of timestamp, epoch, period; got {got}" in fault


@pytest.mark.parametrize("time", ["{timestamp: t}", "{epoch: e, unit: ms}", "{period: p}"])
def test_time_may_be_of_any_one_kind(tmp_path: Path, time: str) -> None:
    load_mapping(written(tmp_path, SMALL.replace("{timestamp: t}", time)))


def test_an_unknown_unit_of_time_lists_the_known_ones(tmp_path: Path) -> None:
    [fault] = faults_of(tmp_path, SMALL.replace("{timestamp: t}", "{epoch: e, unit: minute}"))
    assert fault == "time.unit: input should be 's', 'ms', 'us' or 'ns', got 'minute'"


def test_everything_that_is_missing_is_told_at_once(tmp_path: Path) -> None:
    assert faults_of(tmp_path, "name: shop") == [
        "user: field required",
        "item: field required",
        "time: field required",
        "windows: field required",
    ]


def test_unknown_keys_are_answered_with_the_nearest_ones(tmp_path: Path) -> None:
    text = SMALL.replace("history: 2", "history: 2, day: 7") + "target: [a]\nitms: x\n"
    assert faults_of(tmp_path, text) == [
        "windows.day: unknown key; did you mean 'days'?",
        "target: unknown key; did you mean 'targets'?",
        "itms: unknown key; did you mean 'items'?",
    ]


def test_a_misspelt_key_of_the_catalogue_is_answered_too(tmp_path: Path) -> None:
    text = SMALL + "items: {id: i, attribute: {a: b}}\n"
    assert "items.attribute: unknown key; did you mean 'attributes'?" in faults_of(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (SMALL.replace("history: 2", "history: 0"), "windows.history: input should be greater"),
        (SMALL.replace("history: 2", "history: 2, days: 0"), "windows.days: input should be"),
        (SMALL + "task: guess\n", "task: input should be 'next_window' or 'next_item'"),
        (SMALL + "targets: purchase\n", "targets: input should be a valid tuple"),
        (SMALL + "items: {id: i, attributes: {}}\n", "items.attributes: dictionary should have"),
        *(
            (SMALL + f"items: {{id: i, attributes: {{{name}: x}}}}\n", "items: attr")
            for name in ("id", "Updated", "index", "window", "_x", "a.b", "a b", "a: y, A")
        ),
        (SMALL + "returns: x\nrejects: {return: y}\n", "rejects must not name"),
        (SMALL.replace("user: u", "user: [u, v]"), "user: input should be a valid string"),
        (SMALL.replace("{timestamp: t}", "t"), "time: input should be a valid dictionary"),
    ],
)
def test_a_wrong_value_is_told_in_words(tmp_path: Path, text: str, fault: str) -> None:
    [told] = faults_of(tmp_path, text)
    assert told.startswith(fault)


def test_a_missing_mapping_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.yaml cannot be read .*name an existing"):
        load_mapping(tmp_path / "none.yaml")


def test_a_mapping_that_is_a_list_is_told(tmp_path: Path) -> None:
    assert "must hold sections with keys, got list" in faults_of(tmp_path, "- user")[0]
