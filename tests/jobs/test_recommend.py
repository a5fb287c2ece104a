"""Slates for everybody in the lake: asked when the model has learned to be asked."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.recommend import SCHEMA, TABLE, _Everybody, keep, kept, main
from recsys_lib.adapters.lake import Lake
from recsys_lib.adapters.shards import ItemShelf
from recsys_lib.errors import AlluviumError
from recsys_lib.model.histories import Histories
from recsys_lib.recommend.histories import Asking, Clock
from recsys_lib.recommend.slates import Opened
from tests.model.tiny import catalog_of, sequences_of


@dataclass
class Opening:
    """A model of this task that answers nothing and remembers when it was asked."""

    task: str
    asked: list[float] = field(default_factory=list)

    def __call__(self) -> Opened:
        scorer: Any = self
        return scorer, Asking(catalog_of(5), Clock.of({}), self.task, 7, ("buy",))

    def top_k(self, histories: Histories, k: int, *, exclude_seen: bool) -> tuple[Any, Any]:
        self.asked += histories.now.tolist()
        shape = len(histories), k
        return np.zeros(shape, np.int32), np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("task", "moments"), [("next_window", [8.0, 8.0]), ("next_item", [4.5, 7.25])]
)
def test_a_window_model_is_asked_for_the_next_window_and_a_session_model_at_each_last_event(
    task: str, moments: list[float]
) -> None:
    opening = Opening(task)
    rows = sequences_of([(1, 3.0), (2, 4.5)], [(3, 7.25)]).drop_columns(["known"])
    for size, batches in ((2, [["u0", "u1"]]), (1, [["u0"], ["u1"]])):
        everybody = _Everybody(opening, 2, False, version=1, window=7, batch_rows=size)
        answers = list(everybody.score(rows.to_batches()))
        assert [answer.column("user").to_pylist() for answer in answers] == batches
    assert opening.asked == moments * 2


@dataclass
class Ranking(Opening):
    """Item "a" is best for everybody, then "b", and so on."""

    def top_k(self, histories: Histories, k: int, *, exclude_seen: bool) -> tuple[Any, Any]:
        items = np.tile(np.arange(1, k + 1, dtype=np.int32), (len(histories), 1))
        return np.where(items <= 5, items, 0), -items.astype(np.float32)


def test_everybody_is_offered_what_can_be_had(lake: Lake) -> None:
    rows = [("a", False), ("b", True), ("c", False)]
    items = lake.spark.createDataFrame(rows, "id string, available boolean")
    lake.append_once("items", items, app="t", version=0)
    shelf = ItemShelf(lake.path("items"), 0)
    everybody = _Everybody(
        Ranking("next_window"), 3, False, version=1, window=7, batch_rows=9, shelf=shelf
    )
    rows = sequences_of([(1, 3.0), (2, 4.5)]).drop_columns(["known"])
    [answer] = everybody.score(rows.to_batches())
    assert answer.to_pylist()[0]["items"] == ["b", "d", "e"]


def test_what_the_catalogue_says_is_off_the_shelf_or_sold_out_is_left_out(lake: Lake) -> None:
    rows = [
        ("here", True, 3.0),
        ("silent", None, None),
        ("off", False, 3.0),
        ("sold", True, 0.0),
        ("owed", None, -1.0),
    ]
    items = lake.spark.createDataFrame(rows, "id string, available boolean, stock double")
    told = []
    for name, part in (("both", items), ("stock", items.drop("available")), ("id", items[["id"]])):
        lake.append_once(name, part, app="t", version=0)
        shelf = ItemShelf(lake.path(name), 0)
        told.append((shelf.tells(), {*shelf.gone()}))
    assert told == [(True, {"off", "sold", "owed"}), (True, {"sold", "owed"}), (False, set())]


def test_slates_that_were_made_otherwise_are_made_again_and_take_their_place(lake: Lake) -> None:
    def slates(item: str, window: int = 7) -> Any:
        return lake.spark.createDataFrame([("u0", [item], [1.0], 3, window)], SCHEMA)

    keep(lake, slates("a", window=6), 3, 6, "k 1")
    for item, how in (("a", "k 1"), ("b", "k 2"), ("a", "k 1")):
        assert kept(lake, 3, 7, how) is None
        keep(lake, slates(item), 3, 7, how)
        assert kept(lake, 3, 7, how) is not None
        mine = lake.read(TABLE).where("window = 7").collect()
        assert [(row["items"], row["settings"]) for row in mine] == [([item], how)]


@pytest.fixture
def histories(tmp_path: Path) -> Path:
    file = tmp_path / "asked.jsonl"
    file.write_text(json.dumps({"request_id": "x", "items": ["a"]}))
    return file


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--out", "{folder}/none", "--model", "models:/alluvium/1"], "need --histories"),
        (["--out", "{folder}/none", "--run", "build/demo"], "need --histories"),
        (["--histories", "{file}", "--model", "{folder}", "--out", "a", "--k=-1"], "recommend.k"),
        (
            ["--histories", "{file}", "--model", "models:/a/1", "--out", "a", "--run={folder}/r"],
            "name the run folder with --run",
        ),
    ],
    ids=["a model for everybody", "a run for everybody", "less than one item", "no such run"],
)
def test_options_that_cannot_be_obeyed_are_refused(
    histories: Path, tmp_path: Path, options: list[str], words: str
) -> None:
    with pytest.raises(AlluviumError, match=words):
        main([text.format(file=histories, folder=tmp_path) for text in options])
    assert list(tmp_path.iterdir()) == [histories]


def test_requests_without_a_column_are_refused_before_anything_is_opened(tmp_path: Path) -> None:
    (tmp_path / "asked.csv").write_text("id,items\nx,a\n")
    asked = ["--histories", str(tmp_path / "asked.csv"), "--model", str(tmp_path), "--out", "a"]
    with pytest.raises(AlluviumError, match="rename or add request_id"):
        main(asked)


def test_whether_to_exclude_is_yes_or_no(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--exclude-seen", "ture"])
    assert "must be true or false, got 'ture'" in capsys.readouterr().err
