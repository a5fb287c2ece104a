from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from recsys_lib.adapters import ranks
from recsys_lib.adapters.places import KeptFile
from recsys_lib.adapters.ranks import run_on_ranks
from recsys_lib.adapters.ranks.task import placed
from recsys_lib.errors import RanksError
from recsys_lib.evaluate.baselines import Popularity
from recsys_lib.model.bundle import Bundle
from recsys_lib.model.catalog import Catalog
from recsys_lib.model.network import Network, Spec
from recsys_lib.model.scorer import ModelScorer
from recsys_lib.settings import PruneSettings, RanksSettings
from recsys_lib.train.lesson import Lesson
from tests.model.tiny import bundle_of
from tests.train.shop import MODEL, RING, TRAIN, hit_rate, ring_shop

PRUNE = PruneSettings(final_sparsity=0.4, step=0.4, frequency=2)
TWO = TRAIN.model_copy(update={"ranks": 2})


def untrained(shop: Catalog, folder: Path) -> None:
    """A parent that has everything to learn."""
    sizes = {
        name: getattr(MODEL, name) for name in Spec.__dataclass_fields__ if hasattr(MODEL, name)
    }
    spec = Spec(shop.items, len(shop.types) - 1, shop.sizes, shop.profile, **sizes)
    bundle_of(shop, Network(spec, seed=1)).save(folder)


def learning(dies_at: int | None = None) -> Callable[[Lesson], dict[str, Any]]:
    """Learns on a rank, and tells of every rank a digest of its weights. The second of two ranks is
    killed at a step."""

    def tell(step: int, steps: int, loss: float | None = None) -> None:
        import os
        import signal

        if step == dies_at and os.environ["HOROVOD_RANK"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)

    def learn(lesson: Lesson) -> dict[str, Any]:
        import hashlib
        from dataclasses import replace

        import horovod.tensorflow as hvd

        from recsys_lib.model import weights
        from recsys_lib.train import loop

        seen: dict[str, str] = {}
        named = weights.named_arrays

        def noted(net: Any) -> Any:
            arrays = named(net)
            digest = hashlib.sha256()
            for name in sorted(arrays):
                digest.update(arrays[name].tobytes())
            every = hvd.allgather_object(digest.hexdigest())
            seen["digests"] = every
            return arrays

        loop.named_arrays = noted
        return {**loop.learn_increment(replace(lesson, tell=tell)), **seen}

    return learn


def test_two_ranks_hold_equal_weights_and_learn_what_one_rank_learns(
    spark: SparkSession, tmp_path: Path
) -> None:
    shop = ring_shop(tmp_path / "shop", files=2)
    options: dict[str, Any] = {"threads": 1, "timeout": 300, "log": str(tmp_path / "ranks.log")}
    untrained(shop.reader(before=3)(), tmp_path / "parent")
    lesson = shop.lesson(
        (0, 2), tmp_path / "model", parent=str(tmp_path / "parent"), prune=PRUNE, train=TWO
    )
    summary = run_on_ranks(learning(), lesson, ranks=2, **options)
    assert summary["ranks"] == 2
    assert summary["examples"] == 3 * 40 * 3
    assert len(summary["digests"]) == 2
    assert len(set(summary["digests"])) == 1
    assert summary["sparsity"]["total"] == pytest.approx(0.4, abs=0.02)
    hits = hit_rate(ModelScorer(Bundle.load(lesson.folder)), RING)
    assert hits > 0.6 > 4 * hit_rate(Popularity(np.ones(RING + 1)), RING)


def test_a_rank_that_fails_is_an_error_that_names_the_log(
    spark: SparkSession, tmp_path: Path
) -> None:
    def broken(_: None) -> dict[str, Any]:
        import horovod.tensorflow as hvd

        hvd.init()
        if hvd.rank() == 1:
            raise ValueError("this rank has had enough")
        return {}

    log = tmp_path / "logs" / "ranks.log"
    wanted = rf"all 2 ranks must finish, got: rank 1: ValueError: this rank .*see {log}"
    with pytest.raises(RanksError, match=wanted):
        run_on_ranks(broken, None, ranks=2, threads=1, timeout=120, log=str(log))
    assert "[1] ValueError: this rank has had enough" in log.read_text()


def test_a_rank_killed_in_the_middle_costs_what_follows_its_last_checkpoint(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second launch finds one slot only, and learns the whole lesson's rest with it."""
    slots = iter([2, 1])
    monkeypatch.setattr(ranks, "free_slots", lambda _: next(slots))
    shop = ring_shop(tmp_path / "shop", files=2)
    untrained(shop.reader(before=3)(), tmp_path / "parent")
    lesson = shop.lesson(
        (0, 2),
        tmp_path / "model",
        parent=str(tmp_path / "parent"),
        train=TWO,
        ranks=RanksSettings(checkpoint_seconds=0.0, wait_seconds=0.0),
        kept=KeptFile(str(tmp_path / "checkpoint")),
    )
    told = {"log": str(tmp_path / "ranks.log"), "settings": lesson.ranks}
    summary = run_on_ranks(learning(dies_at=40), lesson, ranks=2, threads=1, timeout=120, **told)
    assert summary["ranks"] == 1
    assert 35 <= summary["resumed"] <= 40
    assert [step for step, _ in summary["loss"]][-1] == summary["steps"] - 1
    assert hit_rate(ModelScorer(Bundle.load(lesson.folder)), RING) > 0.6
    assert (tmp_path / "checkpoint").exists(), "it is the driver's to drop"
    assert "lost: rank 1 killed by SIGKILL after step" in (tmp_path / "ranks.log").read_text()


def test_however_tables_are_joined_the_ranks_get_the_same_rows(
    spark: SparkSession, tmp_path: Path
) -> None:
    def join(_: None) -> dict[str, Any]:
        import horovod.tensorflow as hvd
        import numpy as np
        import tensorflow as tf

        from recsys_lib.settings import RanksSettings
        from recsys_lib.train.reduce import Reducer

        hvd.init()
        random = np.random.default_rng(hvd.rank())
        rows = random.integers(0, 20, 30).astype(np.int32)
        values = random.normal(size=(30, 3)).astype(np.float32)
        slices = tf.IndexedSlices(values, rows, tf.constant([40, 3]))
        dense = tf.fill([2, 2], float(hvd.rank()))
        found = {}
        bias = tf.IndexedSlices(values[:, :1], rows, tf.constant([40, 1]))
        work = [slices, dense, bias], ["items/embeddings", "d/kernel", "item_bias/embeddings"]
        for way in ("whole", "unique"):
            reduce = Reducer(RanksSettings(), {"items": way})
            (table, mean, beside), norm, told = reduce(*work, tf.constant([float(hvd.rank()), 2.0]))
            assert (beside.values.numpy() == table.values.numpy()[:, :1]).all()
            found[way] = (table.indices.numpy(), table.values.numpy())
        half = Reducer(RanksSettings(compression="fp16"), {"items": "unique"})
        (rough, _, _), _, _ = half(*work, tf.constant([0.0]))
        whole = np.zeros((40, 3), np.float32)
        np.add.at(whole, rows, values)
        wanted = hvd.allreduce(whole).numpy()
        touched = np.unique(hvd.allgather(rows).numpy())
        squares = ((values**2).sum() + (values[:, 0] ** 2).sum()) / hvd.size()
        return {
            "found": found,
            "rough": rough.values.numpy(),
            "wanted": (touched, wanted[touched]),
            "mean": mean.numpy(),
            "norm": float(norm),
            "length": float(hvd.allreduce(squares**0.5)),
            "told": told.numpy().tolist(),
        }

    told = run_on_ranks(
        join, None, ranks=2, threads=1, timeout=120, log=str(tmp_path / "ranks.log")
    )
    rows, values = told["wanted"]
    assert told["told"] == [0.5, 2.0]
    for way in ("whole", "unique"):
        assert told["found"][way][0].tolist() == rows.tolist(), way
        assert told["found"][way][1] == pytest.approx(values, abs=1e-6), way
    assert told["rough"] == pytest.approx(values, abs=5e-3)
    assert told["norm"] == pytest.approx((told["length"] ** 2 + 4 * 0.25) ** 0.5)
    assert told["mean"].tolist() == [[0.5, 0.5], [0.5, 0.5]]


def stopping(how: int, times: int) -> Callable[[Path], dict[str, Any]]:
    """The second of two ranks stops `times` times, each time after its first step."""

    def run(folder: Path) -> dict[str, Any]:
        import os

        from recsys_lib.adapters.ranks import tell

        tell(1, 2)
        if os.environ["HOROVOD_RANK"] == "1":
            done = len(list(folder.glob("stopped-*")))
            if done < times:
                (folder / f"stopped-{done}").touch()
                os.kill(os.getpid(), how)
        return {"size": int(os.environ["HOROVOD_SIZE"])}

    return run


def test_a_rank_that_hangs_is_noticed_and_all_are_launched_again(
    spark: SparkSession, tmp_path: Path
) -> None:
    log, settings = tmp_path / "ranks.log", RanksSettings(stall_seconds=2.0)
    told: dict[str, Any] = {"log": str(log), "settings": settings}
    hangs = stopping(signal.SIGSTOP, times=1)
    found = run_on_ranks(hangs, tmp_path, ranks=2, threads=1, timeout=60, **told)
    assert found == {"size": 2}
    assert "lost: rank 1 was silent for 2 s" in log.read_text()


def test_after_so_many_relaunches_it_is_an_error(spark: SparkSession, tmp_path: Path) -> None:
    settings = RanksSettings(relaunches=1)
    told: dict[str, Any] = {"log": str(tmp_path / "ranks.log"), "settings": settings}
    wanted = "got: rank 1 killed by SIGKILL .*, after 1 relaunches .*the champion is as it was"
    dies = stopping(signal.SIGKILL, times=9)
    with pytest.raises(RanksError, match=wanted):
        run_on_ranks(dies, tmp_path, ranks=2, threads=1, timeout=60, **told)
    assert len(list(tmp_path.glob("stopped-*"))) == 2


def test_ranks_know_their_place_among_those_of_their_host() -> None:
    hosts = ["a", "b", "a", "c", "b"]
    places = [placed(hosts, rank) for rank in range(5)]
    told = [(p["HOROVOD_LOCAL_RANK"], p["HOROVOD_CROSS_RANK"]) for p in places]
    assert told == [("0", "0"), ("0", "1"), ("1", "0"), ("0", "2"), ("1", "1")]
    assert [p["HOROVOD_CROSS_SIZE"] for p in places] == ["3", "3", "2", "3", "2"]
