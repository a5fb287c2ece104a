from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs import train, turn
from jobs.shipping import Shipping
from jobs.shop import strange_increments
from jobs.train import _lesson, _unpin_superseded, lesson, ranks_for
from recsys_lib.adapters.lake import Lake
from recsys_lib.errors import RanksError, SourceError
from recsys_lib.features.recipe import prepare_window
from recsys_lib.mapping import Mapping
from recsys_lib.settings import CompressSettings, FeatureSettings, Settings
from recsys_lib.types import Increment, ModelVersion, Verdict
from tests.train.shop import TRAIN, Shop


@pytest.mark.parametrize(("rank_rows", "ranks"), [(1, 3), (20, 2), (39, 2), (40, 1), (4000, 1)])
def test_an_increment_is_learned_on_as_many_ranks_as_its_rows_are_worth(
    tmp_path: Path, rank_rows: int, ranks: int
) -> None:
    shop = Shop(tmp_path)
    shop.land(1, [[(1, 1.0), (2, 1.1)]] * 40, 2)
    mine = shop.lesson((1, 1), str(tmp_path / "model"))
    told = TRAIN.model_copy(update={"ranks": 3, "rank_rows": rank_rows})
    assert ranks_for(replace(mine, train=told)) == ranks


def test_a_checkpoint_is_dropped_when_the_lesson_is_learned_and_not_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop(tmp_path)
    shop.land(1, [[(1, 1.0), (2, 1.1)]] * 4, 2)
    mine = shop.lesson((1, 1), str(tmp_path / "model"))
    kept = tmp_path / "model.checkpoint"
    kept.write_text("a standing")
    context: Any = SimpleNamespace(settings=Settings(), out=tmp_path)

    def lost(*_: Any, **__: Any) -> dict[str, Any]:
        raise RanksError("lost")

    monkeypatch.setattr(train, "run_on_ranks", lost)
    with pytest.raises(RanksError):
        train.learn(context, mine)
    assert kept.exists()
    monkeypatch.setattr(train, "run_on_ranks", lambda *_, **__: {"examples": 4})
    assert train.learn(context, mine) == {"examples": 4}
    assert not kept.exists()


MAPPING = Mapping.model_validate(
    {"user": "u", "item": "i", "time": {"timestamp": "t"}, "windows": {"history": 6}}
)
SILVER = (
    "key string, user string, item string, type string, time timestamp, `order` bigint, "
    "value double, `window` int, at double"
)


def arrive(lake: Lake, windows: range, busy: int = 0) -> None:
    """Four events of each of ten users in every window; `busy` more of one of them in the last."""
    told = [(w, f"u{n % 10}", n) for w in windows for n in range(40)]
    told += [(windows[-1], "u0", n) for n in range(40, 40 + busy)]
    rows = [
        (f"{w}-{n}", user, f"i{n % 7}", "buy", None, n, 1.0, w, w + n / 1000) for w, user, n in told
    ]
    version = windows[0]
    lake.append_once("silver", lake.spark.createDataFrame(rows, SILVER), app="t", version=version)


def test_the_first_model_learns_all_that_is_there_however_strange_the_history_ended(
    lake: Lake, tmp_path: Path
) -> None:
    for windows, busy in ((range(6), 400), (range(6, 7), 0)):
        arrive(lake, windows, busy)
        prepare_window(lake, windows[-1], MAPPING, FeatureSettings())
    tracking: Any = SimpleNamespace(champion=lambda: None)
    context: Any = SimpleNamespace(
        settings=Settings(), mapping=MAPPING, lake=lake, out=tmp_path, axis=lambda: None
    )
    context.tracking = tracking
    assert 5 in strange_increments(context)
    first = _lesson(context, 6)
    assert first is not None
    assert first.windows == (5, 6)
    assert first.rows.count(first.windows, 1000) == 20
    tracking.champion = lambda: ModelVersion("m", 1, "models:/m/1", 5)
    strategy = {"train": {"strategy": "full"}}
    context.settings = Settings.model_validate(strategy)
    full = _lesson(context, 6)
    assert full is not None
    assert full.rows.count(full.windows, 1000) == 20
    old = Settings.model_validate({"run": {"seed": 77}, "features": {"neighbours": 7}})
    again = lesson(
        context, (5, 6), first.lineage["tables"], old, parent=None, folder="", lineage={}
    )
    assert (again.rows.seed, again.read_catalog.neighbours) == (77, 7), "not those of today"


def test_golden_histories_are_those_of_the_last_window_in_which_somebody_came(
    tmp_path: Path,
) -> None:
    shop = Shop(tmp_path)
    shop.land(1, [[(1, 1.0), (2, 1.1)]], 4)
    shop.land(2, [[(3, 2.0), (4, 2.1)]], 4)
    shop.land(3, [[(1, 3.0)]], 4)

    def golden(*windows: int) -> Any:
        ship = Shipping(CompressSettings(), shop.rows(), windows, "next_item", ("buy",), "dense")
        return ship.golden(shop.reader(9)())

    found = golden(1, 7)
    assert found is not None
    assert found.items.tolist() == [3], "in 3 nobody had a past, and after it nobody came"
    assert golden(3, 7) is None


def test_a_turn_over_a_window_in_which_nobody_came_leaves_models_as_they_are(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def noted(name: str) -> Any:
        return lambda *_: done.append(name)

    for name in ("evaluate", "promote", "train"):
        monkeypatch.setattr(turn, name, noted(name))
    came = spark.createDataFrame([(6,)], "`window` int")
    tracking = SimpleNamespace(champion=lambda: ModelVersion("m", 1, "models:/m/1", 5))
    context: Any = SimpleNamespace(lake=SimpleNamespace(read=lambda _: came), tracking=tracking)
    assert turn.learn(context, 7) == "window 7: nobody came"
    assert done == []
    assert turn.learn(context, 6) == "window 6: is champion, nothing to learn"
    assert done == ["evaluate", "promote", "train"]
    for candidate, said in ((1, "promoted"), (2, "held")):  # 2: another leads since the exam
        scores = SimpleNamespace(roles={"champion": 0, "candidate": candidate})
        monkeypatch.setattr(turn, "evaluate", lambda *_, found=scores: found)
        monkeypatch.setattr(turn, "promote", lambda *_: Verdict(True, ()))
        assert turn.learn(context, 6) == f"window 6: {said}, nothing to learn"


def test_versions_that_are_superseded_give_up_their_pins_once(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrive(lake, range(1))
    pinned = [
        *(f"model of window {window}" for window in range(6)),
        "model of window 77",
        "reader x",
    ]
    for by in pinned:
        lake.pin(Increment("silver", 0, 1), by=by)
    versions = [ModelVersion("m", n + 1, f"models:/m/{n + 1}", n) for n in range(6)]
    tracking = SimpleNamespace(versions=lambda: versions, champion=lambda: versions[1])
    settings = Settings.model_validate({"lake": {"keep_versions": 2}})
    context: Any = SimpleNamespace(settings=settings, lake=lake, tracking=tracking)
    given_up: list[str] = []
    remove = lake.pins.remove
    monkeypatch.setattr(lake.pins, "remove", lambda by, _: given_up.append(by) or remove(by))
    for _ in range(2):
        _unpin_superseded(context)
    assert given_up == [f"model of window {window}" for window in (0, 2, 3)]
    assert lake.pins.by() == set(pinned) - set(given_up)


def test_a_turn_goes_on_with_a_first_version_that_was_not_promoted_yet(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn, "closed_window", lambda _: 5)
    monkeypatch.setattr(turn, "landed", lambda *_: True)
    silver = spark.createDataFrame([(3,)], "`window` int")
    one = ModelVersion("m", 1, "models:/m/1", 4)
    for champion, windows in ((None, [3, 4, 5]), (one, [5])):
        tracking = SimpleNamespace(champion=lambda it=champion: it, versions=lambda: [one])
        context: Any = SimpleNamespace(lake=SimpleNamespace(read=lambda _: silver))
        context.tracking = tracking
        assert turn.due(context) == windows


def test_a_target_is_found_among_however_many_types(lake: Lake) -> None:
    names = F.concat(F.lit("t"), F.format_string("%05d", "id"))
    rows = lake.spark.range(3000).select(F.lit("type").alias("kind"), names.alias("id"))
    lake.append_once("vocabulary", rows.coalesce(1), app="test", version=0)

    def check(*targets: str) -> None:
        mapping = MAPPING.model_copy(update={"targets": targets})
        train._check_targets(cast(Any, SimpleNamespace(lake=lake, mapping=mapping)))

    check()
    check("t02999", "sold")
    with pytest.raises(SourceError, match=r"got \['sold'\], but it has \['t00000', .*'t00009'\]"):
        check("sold")
