from __future__ import annotations

import numpy as np
import pytest

from recsys_lib.model.tensorflow import tf
from recsys_lib.settings import RanksSettings
from recsys_lib.train.reduce import Reducer, Rows, added, best_way, bytes_of

SHOP = Rows(table=68_500, width=64, own=4000, union=4500)


def test_a_ring_sends_what_the_formula_says() -> None:
    assert bytes_of("whole", Rows(100, 3, 10, 10), ranks=2) == 100 * 4 * 4
    assert bytes_of("unique", Rows(100, 3, 10, 20), ranks=2) == 10 * 4 + 20 * 3 * 4
    assert bytes_of("whole", SHOP, ranks=8) == pytest.approx(2 * 7 / 8 * 68_500 * 65 * 4)


@pytest.mark.parametrize(
    ("rows", "ranks", "way"),
    [
        (Rows(table=6, width=64, own=6, union=6), 2, "whole"),
        (Rows(table=68_500, width=64, own=4000, union=8000), 2, "unique"),
        (Rows(table=68_500, width=64, own=4000, union=4500), 8, "unique"),
        (Rows(table=10_000_000, width=64, own=4000, union=30_000), 64, "unique"),
        (Rows(table=8_000, width=64, own=8000, union=8000), 8, "whole"),
    ],
)
def test_tables_are_joined_in_the_way_that_sends_least(rows: Rows, ranks: int, way: str) -> None:
    assert best_way(rows, ranks) == way


def test_what_the_ranks_have_in_common_is_sent_no_oftener_for_more_ranks() -> None:
    few, many = (bytes_of("unique", SHOP, ranks) for ranks in (8, 64))
    assert many < 1.7 * few


def test_parts_of_a_batch_have_the_mean_of_their_gradients() -> None:
    one, two = (
        tf.IndexedSlices(tf.constant([[value]]), tf.constant([row]), tf.constant([5, 1]))
        for row, value in ((1, 2.0), (3, 4.0))
    )
    both = added([one, two])
    assert tf.convert_to_tensor(both).numpy().ravel().tolist() == [0, 1, 0, 2, 0]
    assert added([tf.constant(2.0), tf.constant(4.0)]).numpy() == 3.0
    assert added([None, None]) is None


def test_one_rank_keeps_its_rows_and_sums_each_up() -> None:
    import horovod.tensorflow as hvd

    hvd.init()
    rows = tf.constant([2, 0, 2])
    slices = tf.IndexedSlices(tf.constant([[1.0], [5.0], [2.0]]), rows, tf.constant([4, 1]))
    dense = tf.constant([2.0, 4.0])
    names = ["items/embeddings", "gate/bias"]
    (found, same), norm, told = Reducer(RanksSettings(), {})(
        [slices, dense], names, tf.constant([1.5])
    )
    assert told.numpy() == [1.5]
    assert found.indices.numpy().tolist() == [2, 0]
    assert np.ravel(found.values).tolist() == [3.0, 5.0]
    assert same.numpy().tolist() == [2.0, 4.0]
    assert norm.numpy() == pytest.approx(np.sqrt(1 + 25 + 4 + 4 + 16))


def test_what_is_sent_has_one_shape_however_many_rows_a_batch_looks_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import horovod.tensorflow as hvd

    hvd.init()
    sent: list[tuple[int, ...]] = []

    def noted(values: tf.Tensor, **_: object) -> tf.Tensor:
        sent.append(tuple(values.shape))
        return values

    monkeypatch.setattr(hvd, "size", lambda: 2)
    monkeypatch.setattr(hvd, "allgather", noted)
    monkeypatch.setattr(hvd, "allreduce", noted)
    for looked_up in ([2, 0, 2], [1, 2, 3, 4, 5]):
        rows = tf.constant(looked_up)
        slices = tf.IndexedSlices(tf.ones([len(looked_up), 1]), rows, tf.constant([9000, 1]))
        reducer = Reducer(RanksSettings(), {"items": "unique"})
        (found,), _, _ = reducer([slices], ["items/embeddings"], tf.constant([1.5]))
        each = sorted(set(looked_up))
        assert found.indices.numpy().tolist() == each
        assert np.ravel(found.values).tolist() == [looked_up.count(row) for row in each]
    assert len(sent) == 4
    assert sent[:2] == sent[2:]
