from __future__ import annotations

import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import write_deltalake

from recsys_lib.adapters.shards import CatalogReader, SequenceRows
from recsys_lib.errors import LakeError
from recsys_lib.model.stats import FEATURES, LIFT, item_stats
from recsys_lib.types import Exemplars
from tests.model.tiny import Event
from tests.train.shop import Shop

Row = list[Event]


def a_shop(root: Path, files: int, rows: int = 12) -> Shop:
    """Windows 1 and 2; the only event of row n is of item n + 1."""
    shop = Shop(root)
    for window in (1, 2):
        shop.land(window, [[(n + 1, float(window))] for n in range(rows)], rows, files)
    return shop


def items_of(batches: list[pa.RecordBatch]) -> list[int]:
    return [item for batch in batches for row in batch.column("items").to_pylist() for item in row]


def share(rows: SequenceRows, rank: int, ranks: int, epoch: int = 0) -> list[int]:
    return items_of(list(rows.batches((1, 1), rank, ranks, epoch)))


@pytest.mark.parametrize("files", [1, 2, 3, 4])
@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("epoch", [0, 1])
def test_ranks_share_the_rows_of_an_epoch_without_overlap(
    tmp_path: Path, files: int, ranks: int, epoch: int
) -> None:
    rows = a_shop(tmp_path, files).rows(batch_rows=2)
    shares = [share(rows, rank, ranks, epoch) for rank in range(ranks)]
    assert sorted(item for part in shares for item in part) == list(range(1, 13))
    assert min(len(part) for part in shares) >= 3


def test_every_rank_has_its_share_of_every_window(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.land(1, [[(n + 1, 1.0)] for n in range(60)], 60, 1)
    shop.land(2, [[(100 + n, 2.0)] for n in range(4)], 4, 1)
    rows = shop.rows(batch_rows=2)
    shares = [items_of(list(rows.batches((1, 2), rank, 2, 0))) for rank in range(2)]
    assert [sum(item >= 100 for item in share) for share in shares] == [2, 2]
    assert [len(share) for share in shares] == [32, 32]


def test_one_rank_reads_everything(tmp_path: Path) -> None:
    rows = a_shop(tmp_path, 2).rows(batch_rows=5)
    assert sorted(share(rows, 0, 1)) == list(range(1, 13))


def test_rows_are_counted_until_there_are_enough(tmp_path: Path) -> None:
    rows = a_shop(tmp_path, 3).rows()
    assert rows.count((1, 2), enough=1000) == 24
    assert rows.count((2, 2), enough=1000) == 12
    assert rows.count((1, 2), enough=5) == 8
    assert rows.count((7, 9), enough=1) == 0


def test_the_same_seed_and_epoch_give_the_same_order_and_others_another(tmp_path: Path) -> None:
    shop = a_shop(tmp_path, 2)
    order = share(shop.rows(seed=7), 0, 1)
    assert order == share(shop.rows(seed=7), 0, 1)
    assert order != share(shop.rows(seed=7), 0, 1, epoch=1)
    assert order != share(shop.rows(seed=8), 0, 1)
    assert order != sorted(order)


def test_windows_are_inclusive_on_both_ends(tmp_path: Path) -> None:
    rows = a_shop(tmp_path, 1).rows()
    found = items_of(list(rows.batches((1, 2), 0, 1, 0)))
    assert sorted(found) == sorted([*range(1, 13)] * 2)


def test_rows_that_came_after_the_pinned_version_are_not_read(tmp_path: Path) -> None:
    shop = a_shop(tmp_path, 1)
    pinned = shop.rows()
    shop.land(1, [[(1, 1.0)]], 12)
    assert len(share(pinned, 0, 1)) == 12
    assert len(share(shop.rows(), 0, 1)) == 13


def test_windows_that_never_landed_are_an_error_that_names_them(tmp_path: Path) -> None:
    rows = a_shop(tmp_path, 1).rows()
    with pytest.raises(LakeError, match=r"must hold rows of windows 7 to 9 at version .* ingest"):
        list(rows.batches((7, 9), 0, 1, 0))


def test_readers_travel_to_other_processes(tmp_path: Path) -> None:
    shop = a_shop(tmp_path, 2)
    rows, reader = pickle.loads(pickle.dumps((shop.rows(), shop.reader(before=2))))
    assert share(rows, 0, 1) == share(shop.rows(), 0, 1)
    assert reader().items == 12


def test_the_shop_is_read_as_it_was_when_a_window_began(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.land(1, [[(1, 1.0), (2, 1.5)]], items=2)
    shop.land(2, [[(3, 2.0)], [(1, 2.5)]], items=3)
    before, after = shop.reader(before=2)(), shop.reader(before=3)()
    assert before.ids.tolist() == ["", "i1", "i2"]
    assert before.attributes.tolist() == [[0], [2], [1]]
    assert after.ids.tolist() == ["", "i1", "i2", "i3"]
    assert after.attributes.tolist() == [[0], [2], [1], [2]]
    assert (before.sizes, before.profile, before.types) == ((2,), (), ("", "buy"))
    window, index, users = np.array([[1, 1, 1.0], [1, 2, 1.0], [2, 1, 1.0], [2, 3, 1.0]]).T
    for shop_then, last, items, known in ((before, 2, 2, 2), (after, 3, 3, 4)):
        expected = item_stats(
            window[:known].astype(np.int64),
            index[:known].astype(np.int64),
            users[:known],
            items=items,
            first=0,
            last=last,
        )
        assert shop_then.stats.first == 0
        expected = expected.with_kinds(shop_then.attributes)
        np.testing.assert_array_equal(shop_then.stats.values, expected.values)


def test_ids_of_users_are_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop, kinds, read = Shop(tmp_path), set[str](), CatalogReader._table
    shop.land(1, [[(1, 1.0)]], items=1)
    named = {"kind": ["user", "user.city"], "id": ["u1", "Rome"]}
    index, window = pa.array([9, 3], pa.int32()), pa.array([1, 1], pa.int32())
    rows = pa.table({**named, "index": index, "window": window})
    write_deltalake(shop.path("vocabulary"), rows, mode="append")

    def spied(reader: CatalogReader, name: str, where: pc.Expression) -> pa.Table:
        found = read(reader, name, where)
        kinds.update(found.column("kind").to_pylist() if name == "vocabulary" else [])
        return found

    monkeypatch.setattr(CatalogReader, "_table", spied)
    told = replace(shop.reader(before=2), user_attributes=("city",))()
    assert (told.profile, told.ids.tolist()) == ((3,), ["", "i1"])
    assert kinds == {"item", "type", "item.kind", "user.city"}


def test_plans_are_known_up_to_the_window_that_begins_and_no_further(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.land(1, [[(1, 1.0), (2, 1.5)]], items=2)
    shop.land(2, [[(1, 2.0)], [(1, 2.5)]], items=2)
    planned = [(1, "i2", [0.0, 2.0]), (2, "i1", [1.0, 0.5]), (3, "i1", [0.0, 3.0])]
    later = [(4, "i2", [9.0, 9.0]), (2, "unheard", [7.0, 7.0])]
    window, item, values = zip(*planned, *later, strict=True)
    columns = {"item": pa.array(item), "values": pa.array(values, pa.list_(pa.float32()))}
    rows = pa.table({"window": pa.array(window, pa.int32()), **columns})
    write_deltalake(shop.path("plans"), rows)
    reader = shop.reader(before=3)
    found = replace(reader, planned=2, tables={**reader.tables, "plans": 0})()
    assert found.plans is not None
    assert found.plans.item.tolist() == [1, 1, 2]
    assert found.plans.window.tolist() == [2, 3, 1]
    assert found.plans.weight.tolist() == [1.0, 3.0, 2.0]
    plans = slice(len(FEATURES), len(FEATURES) + 2)
    assert found.stats.values[2:, 1, plans].tolist() == [[1.0, 0.5], [0.0, 3.0]]
    lift = found.stats.values[3, :, FEATURES.index(LIFT)]
    assert lift[1] > 0
    assert lift[2] > 0
    none = replace(reader, planned=2)()
    assert none.plans is None
    assert not none.stats.values[..., plans].any()


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2), (2, 3, 1)])
def test_an_item_has_what_was_last_told_of_it_whatever_the_order_of_the_rows(
    tmp_path: Path, order: tuple[int, ...]
) -> None:
    shop = Shop(tmp_path)
    shop.land(1, [[(1, 1.0), (2, 1.5)]], items=2)
    shutil.rmtree(shop.path("item_features"))
    told = {1: [(1, 2), (2, 1)], 2: [(1, 1)], 3: [(1, 2), (2, 2)]}
    for window in order:
        shop.tell(window, told[window])
    attributes = {before: shop.reader(before)().attributes.tolist() for before in (2, 3, 4)}
    assert attributes == {2: [[0], [2], [1]], 3: [[0], [1], [1]], 4: [[0], [2], [2]]}


def test_known_items_and_recent_users_stop_at_the_window(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    for window in (1, 2, 3):
        shop.land(window, [[(window, float(window))] for _ in range(window)], items=window)
    reader = shop.reader(before=3)
    assert sorted(reader.item_ids().to_pylist()) == ["i1", "i2"]
    assert reader.recent_users(items=2, windows=1).tolist() == [0.0, 0.0, 2.0]
    assert reader.recent_users(items=2, windows=2).tolist() == [0.0, 1.0, 2.0]


def many_windows(root: Path, windows: int = 6) -> Shop:
    """The same 12 users in every window; events of window w are of items 100 w + user."""
    shop = Shop(root)
    for window in range(1, windows + 1):
        rows = [[(100 * window + n, float(window))] for n in range(12)]
        shop.land(window, rows, 0)
    return shop


def drawn(
    rows: SequenceRows, choice: Exemplars, rank: int = 0, ranks: int = 1, epoch: int = 0
) -> list[int]:
    return items_of(list(rows.exemplars((1, 6), rank, ranks, epoch, choice)))


def test_exemplars_keep_to_their_budget_and_take_no_user_twice(tmp_path: Path) -> None:
    rows = many_windows(tmp_path).rows(batch_rows=5)
    for epoch in range(5):
        users = [item % 100 for item in drawn(rows, Exemplars(9, 1.0), epoch=epoch)]
        assert len(users) == len(set(users)) == 9
    assert len(drawn(rows, Exemplars(500, 1.0))) == 12, "there are no more users than that"


def test_exemplars_are_spread_over_windows(tmp_path: Path) -> None:
    rows = many_windows(tmp_path).rows(batch_rows=5)
    windows = [item // 100 for item in drawn(rows, Exemplars(12, 1.0, strata=4))]
    assert max(windows.count(window) for window in windows) == 3


def test_recent_windows_are_rehearsed_more_often(tmp_path: Path) -> None:
    rows = many_windows(tmp_path).rows(batch_rows=12)
    choice = Exemplars(2, 0.5, strata=1)
    found = [item // 100 for e in range(200) for item in drawn(rows, choice, epoch=e)]
    assert found.count(6) > found.count(5) > found.count(3)
    assert found.count(6) / len(found) == pytest.approx(32 / 63, abs=0.1)


def test_an_increment_counts_for_each_of_its_windows(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    for label in (10, 11, 12):  # the first one holds the windows 1 to 10
        shop.land(label, [[(100 * label + n, float(label))] for n in range(40)], 0)
    found = [
        item // 100
        for end in range(12, 52)  # a lesson's last old window: each draws others
        for item in items_of(list(shop.rows().exemplars((1, end), 0, 1, 0, Exemplars(12, 1.0))))
    ]
    assert found.count(10) / len(found) == pytest.approx(10 / 12, abs=0.1)
    assert found.count(11) == pytest.approx(found.count(12), abs=40)


def test_every_lesson_rehearses_other_rows_of_a_file(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.land(1, [[(n, 1.0)] for n in range(200)], 0)
    choice, rows = Exemplars(20, 1.0), shop.rows(batch_rows=16)
    draws = [set(items_of(list(rows.exemplars((1, e), 0, 1, 0, choice)))) for e in range(1, 9)]
    assert all(len(drawn) == 20 for drawn in draws)
    assert len(set.union(*draws)) > 80


def test_old_windows_that_are_not_there_are_not_rehearsed(tmp_path: Path) -> None:
    assert not list(many_windows(tmp_path).rows().exemplars((50, 60), 0, 1, 0, Exemplars(9, 1.0)))


def test_ranks_rehearse_different_rows_and_every_epoch_other_ones(tmp_path: Path) -> None:
    rows = many_windows(tmp_path).rows(batch_rows=5)
    choice = Exemplars(6, 1.0)
    one, two = (drawn(rows, choice, rank, 2) for rank in (0, 1))
    assert not set(one) & set(two)
    assert one == drawn(rows, choice, 0, 2)
    assert one != drawn(rows, choice, 0, 2, epoch=1)
