from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from recsys_lib.adapters.ranks import run_on_ranks
from recsys_lib.errors import RanksError
from recsys_lib.evaluate.baselines import Popularity
from recsys_lib.model.bundle import Bundle
from recsys_lib.model.catalog import Catalog
from recsys_lib.model.network import Network, Spec
from recsys_lib.model.scorer import ModelScorer
from recsys_lib.settings import PruneSettings
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


def learning() -> Callable[[Lesson], dict[str, Any]]:
    """Learns on a rank, and tells of every rank a digest of its weights."""

    def learn(lesson: Lesson) -> dict[str, Any]:
        import hashlib

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
        return {**loop.learn_increment(lesson), **seen}

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


# Horovod's launching thread ends with the cancelled Spark job.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
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
    with pytest.raises(RanksError, match=rf"all 2 ranks must finish, got: .*see {log}"):
        run_on_ranks(broken, None, ranks=2, threads=1, timeout=120, log=str(log))
    assert "this rank has had enough" in log.read_text()
