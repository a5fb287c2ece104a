from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from recsys_lib.model.scorer import ModelScorer
from recsys_lib.recommend.histories import ANSWERS, Asking, Clock
from recsys_lib.recommend.pyfunc import PyFunc
from recsys_lib.recommend.slates import Opened, Slates
from tests.model.tiny import bundle_of, catalog_of, untraced

BUNDLE = bundle_of(catalog_of(5, buyers={2: 9.0, 5: 6.0, 3: 4.0, 1: 1.0}))


@pytest.fixture(autouse=True)
def eager() -> Iterator[None]:
    with untraced():
        yield


class Opening:
    """Counts how often the model is opened."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> Opened:
        self.times += 1
        asking = Asking(BUNDLE.catalog, Clock.of({}), "next_window", 9, ("buy",))
        return ModelScorer(BUNDLE), asking


def batch_of(*rows: tuple[str, list[str]]) -> pa.RecordBatch:
    ids, items = zip(*rows, strict=True)
    columns = {"request_id": pa.array(ids), "items": pa.array(items, pa.list_(pa.string()))}
    return pa.RecordBatch.from_pydict(columns)


def test_answers_come_in_the_order_of_the_requests_however_they_are_cut() -> None:
    batches = [batch_of(("x", ["a"]), ("y", []), ("z", ["d"])), batch_of(("w", ["c", "c", "a"]))]
    opening = Opening()
    for batch_rows in (1, 2, 100):
        answers = list(Slates(opening, 2, False, batch_rows).of(batches))
        rows = pa.Table.from_batches(answers, ANSWERS).to_pylist()
        assert [row["request_id"] for row in rows] == ["x", "y", "z", "w"]
        assert [row["items"] for row in rows] == [["a", "b"], ["b", "e"], ["d", "b"], ["c", "a"]]
    assert opening.times == 3


def test_the_model_is_not_opened_when_nobody_asks() -> None:
    opening = Opening()
    assert list(Slates(opening, 2, False, 10).of([])) == []
    assert opening.times == 0


def test_seen_items_are_left_out_when_asked() -> None:
    slates = Slates(Opening(), 5, True, 10)
    rows = [row for part in slates.of([batch_of(("x", ["b", "e"]))]) for row in part.to_pylist()]
    assert rows[0]["items"] == ["c", "a", "d"]


def test_a_registered_model_predicts_frames(tmp_path: Path) -> None:
    BUNDLE.save(tmp_path / "model")
    model = PyFunc(str(tmp_path / "model"))
    frame = pd.DataFrame({"request_id": ["x", "y"], "items": [["a"], []]})
    answer = model.predict(frame, {"k": 2})
    assert answer["request_id"].tolist() == ["x", "y"]
    assert [list(items) for items in answer["items"]] == [["a", "b"], ["b", "e"]]
    unseen = model.predict(frame, {"k": 1, "exclude_seen": True})
    assert [list(items) for items in unseen["items"]] == [["b"], ["b"]]
