from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from recsys_lib.errors import RanksError
from recsys_lib.model.catalog import Catalog
from recsys_lib.model.inputs import inputs
from recsys_lib.model.requests import Task, in_parts, requests
from recsys_lib.settings import ModelSettings, TrainSettings
from recsys_lib.train.feed import Batch, Feed, Reader
from tests.evaluate.naive import targets_of
from tests.model.tiny import Event, catalog_of, histories_of, sequences_of

MODEL = ModelSettings(recent_events=8, copy_items=4, decay=0.9)


def known_since(first: int, shop: Catalog) -> Catalog:
    return replace(shop, stats=replace(shop.stats, first=first))


def feed_of(items: int = 9, seed: int = 1, **train: Any) -> Feed:
    shop = known_since(0, catalog_of(items, {item: float(item) for item in range(1, items + 1)}))
    return Feed(shop, "next_item", ("buy",), MODEL, TrainSettings(**train), seed)


def reader_of(*rows: list[Event], batch_rows: int = 2) -> Reader:
    def read(epoch: int) -> Iterator[pa.RecordBatch]:
        yield from sequences_of(*rows).to_batches(max_chunksize=batch_rows)

    return read


def targets(batch: Batch) -> list[int]:
    return batch["pool"][batch["targets"]][:, 0].tolist()


THREE: list[list[Event]] = [
    [(1, 1.0), (2, 2.0), (3, 3.0)],
    [(4, 1.0)],
    [(5, 1.0), (6, 1.5)],
]
NEW, OLD = reader_of(*THREE), reader_of([(7, 1.0), (8, 2.0), (9, 3.0)])


def test_examples_their_targets_and_what_is_repeated_are_counted_once() -> None:
    assert feed_of().count(NEW) == (3, 3, 0)
    assert feed_of().count(reader_of([(1, 1.0), (2, 2.0), (1, 3.0)], [(2, 1.0), (1, 2.0)]))[2] == 1


def test_an_epoch_holds_every_example_once_however_batches_cut_it() -> None:
    batches = list(islice(feed_of().batches(NEW, None, 2, 0.0), 6))
    seen = [target for batch in batches for target in targets(batch)]
    assert [sorted(seen[i : i + 3]) for i in (0, 3, 6, 9)] == [[2, 3, 6]] * 4


def test_a_draw_of_old_rows_without_an_example_is_passed_over_but_not_the_first() -> None:
    def at_times(*epochs: int) -> Reader:
        def read(epoch: int) -> Iterator[pa.RecordBatch]:
            lone: list[list[Event]] = [[(4, 1.0)]]
            yield from sequences_of(*(THREE if epoch in epochs else lone)).to_batches()

        return read

    batches = list(islice(feed_of().batches(NEW, at_times(0, 3, 5, 6), 4, 0.5), 4))
    assert len(batches) == 4
    with pytest.raises(RanksError, match="must hold an example"):
        next(feed_of().batches(at_times(1), None, 4, 0.0))


@pytest.mark.parametrize("task", ["next_item", "next_window"])
def test_no_more_events_are_held_than_memory_has_room_for(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []

    def noted(*args: Any, **options: Any) -> Any:
        found = requests(*args, **options)
        held.append(len(found[0].items))
        return found

    monkeypatch.setattr("recsys_lib.train.feed.requests", noted)
    monkeypatch.setattr("recsys_lib.train.feed.in_parts", partial(in_parts, most=40))
    daily = [(item, float(item)) for item in range(1, 7)]  # 15 events in its five requests
    reader, mine = reader_of(*[daily] * 8, batch_rows=8), replace(feed_of(), task=task)
    assert mine.count(reader)[0] == 40
    assert mine.has_some(reader)
    next(mine.batches(reader, None, 40, 0.0))
    assert max(held) <= 45


@pytest.mark.parametrize("size", [1, 2, 5, 7])
def test_batches_have_exactly_the_size_asked_for(size: int) -> None:
    for batch in islice(feed_of().batches(NEW, OLD, size, 0.5), 5):
        per_example = ("targets", "target_copy", "recent_items", "copy_items", "stats_row")
        assert {len(batch[name]) for name in per_example} == {size}


def test_the_set_share_of_each_batch_is_rehearsed() -> None:
    for batch in islice(feed_of().batches(NEW, OLD, 8, 0.25), 5):
        assert sum(target in (8, 9) for target in targets(batch)) == 2
        assert batch["rehearsed"].tolist() == [0.0] * 6 + [1.0] * 2


def test_targets_count_what_the_settings_say_of_their_type() -> None:
    for told, wanted in (({}, 1.0), ({"buy": 0.25}, 0.25), ({"view": 0.25}, 1.0)):
        batch = next(feed_of(type_weights=told).batches(NEW, None, 3, 0.0))
        assert batch["target_weight"].tolist() == [[wanted]] * 3


def test_one_decision_of_each_old_row_is_rehearsed_whatever_its_length() -> None:
    feed = feed_of()
    long, short = [(item, float(item)) for item in range(1, 9)], [(1, 1.0), (9, 2.0)]
    rows = sequences_of(long, [(3, 1.0)], short).to_batches()[0]
    drawn = [feed.exemplar(rows, np.random.default_rng(n))[1].items.tolist() for n in range(40)]
    assert all(len(items) == 2 and items[1] == 9 for items in drawn)
    assert {items[0] for items in drawn} == set(range(2, 9))


def test_what_was_decided_before_the_statistics_begin_is_not_learned() -> None:
    feed = feed_of()
    rows = sequences_of([(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]).to_batches()[0]
    late = replace(feed, catalog=known_since(2, feed.catalog))
    histories, wanted = late.examples(rows)
    assert wanted.items.tolist() == [2, 3, 4]
    assert histories.now.tolist() == [1, 2, 3], "2 is asked for in window 2, long after 1"


def test_a_user_who_comes_back_is_told_what_is_known_then() -> None:
    feed = feed_of()
    stats = replace(feed.catalog.stats, values=feed.catalog.stats.values.repeat(9, 0))
    feed = replace(feed, catalog=replace(feed.catalog, stats=stats))
    told = feed.examples(sequences_of([(3, 1.1), (6, 1.2), (2, 7.5)]).to_batches()[0])
    assert feed._batch(*told, np.random.default_rng(0))["stats_row"].tolist() == [1, 7]


def test_rehearsal_always_leaves_room_for_something_new() -> None:
    for batch in islice(feed_of().batches(NEW, OLD, 2, 0.99), 3):
        assert sum(target in (8, 9) for target in targets(batch)) == 1


def test_without_old_rows_everything_is_new() -> None:
    for batch in islice(feed_of().batches(NEW, None, 4, 0.5), 3):
        assert set(targets(batch)) <= {2, 3, 6}


def test_the_same_seed_gives_the_same_batches_and_another_seed_others() -> None:
    def told(seed: int) -> list[Batch]:
        feed = feed_of(seed=seed, full_softmax_items=0, negatives=4)
        return list(islice(feed.batches(NEW, OLD, 3, 0.5), 8))

    first, again, other = told(1), told(1), told(2)
    for mine, same in zip(first, again, strict=True):
        assert mine.keys() == same.keys()
        for name, value in mine.items():
            np.testing.assert_array_equal(value, same[name])
    assert [targets(batch) for batch in first] != [targets(batch) for batch in other]


def test_places_in_the_pool_name_the_right_items() -> None:
    feed = feed_of(full_softmax_items=0, negatives=5)
    histories = histories_of([(4, 6.0), (9, 8.5), (4, 9.0)], [], [(0, 3.0), (2, 9.0)])
    wanted = targets_of([4, 2], [5], [6, 2, 1])
    batch = feed._batch(histories, wanted, np.random.default_rng(0))
    pool = batch["pool"]
    assert pool[0] == 0
    assert len(set(pool.tolist())) == len(pool)
    x = inputs(histories, 8, 4, 0.9)
    assert pool[batch["recent_items"]].tolist() == x.recent_items.tolist()
    assert pool[batch["copy_items"]].tolist() == x.copy_items.tolist()
    named = [sorted(item for item in row if item) for row in pool[batch["targets"]].tolist()]
    assert named == [[2, 4], [5], [1, 2, 6]]
    assert (pool[batch["negatives"]] > 0).all()


def test_a_target_knows_its_place_among_the_users_own_items() -> None:
    histories = histories_of([(4, 6.0), (9, 8.5), (4, 9.0)], [], [(2, 9.0)])
    batch = feed_of()._batch(histories, targets_of([4, 2], [5], [2]), np.random.default_rng(0))
    assert sorted(batch["target_copy"][0].tolist()) == [-1, 0]
    assert batch["target_copy"][1].tolist() == [-1, -1]
    assert batch["target_copy"][2].tolist() == [0, -1]
    for row, place in zip(*np.nonzero(batch["target_copy"] >= 0), strict=True):
        copied = batch["copy_items"][row, batch["target_copy"][row, place]]
        assert copied == batch["targets"][row, place]


def test_a_cut_at_max_targets_gives_every_target_the_same_chance() -> None:
    feed, histories = feed_of(max_targets=2), histories_of([(1, 9.0)])
    counts = np.zeros(10)
    for seed in range(400):
        batch = feed._batch(histories, targets_of([2, 3, 4, 5]), np.random.default_rng(seed))
        chosen = batch["pool"][batch["targets"]][0]
        assert len(set(chosen.tolist())) == 2
        counts[chosen] += 1
    assert counts[2:6].sum() == 800
    assert np.abs(counts[2:6] - 200).max() < 45  # 4.5 standard deviations


def test_a_small_shop_is_its_own_negatives() -> None:
    batch = feed_of(items=6)._batch(histories_of([]), targets_of([1]), np.random.default_rng(0))
    assert batch["pool"][batch["negatives"]].tolist() == [1, 2, 3, 4, 5, 6]
    assert not batch["negatives_log_q"].any()


def test_sampled_negatives_carry_the_log_of_their_expected_count() -> None:
    feed = feed_of(items=4, full_softmax_items=0, negatives=8000)
    batch = feed._batch(histories_of([]), targets_of([1]), np.random.default_rng(0))
    drawn = batch["pool"][batch["negatives"]]
    for item in range(1, 5):
        own = drawn == item
        expected = np.exp(batch["negatives_log_q"][own])
        assert np.ptp(expected) == 0
        assert own.sum() == pytest.approx(expected[0], rel=0.1)
    assert (drawn == 4).sum() > (drawn == 1).sum()  # item 4 sells more


def test_examples_carry_the_row_of_statistics_of_their_decision() -> None:
    feed = feed_of()
    values = np.repeat(feed.catalog.stats.values, 3, axis=0)
    shop = replace(feed.catalog, stats=replace(feed.catalog.stats, first=8, values=values))
    asked = replace(histories_of([], []), now=np.array([9.5, 8.0], dtype=np.float32))
    batch = replace(feed, catalog=shop)._batch(
        asked, targets_of([1], [2]), np.random.default_rng(0)
    )
    assert batch["stats_row"].tolist() == [1, 0]


def test_what_the_targets_are_worth_is_the_log_of_their_sum() -> None:
    rows = sequences_of([(1, 1.0), (2, 2.0), (3, 2.5)])
    worth = pa.array([[9.0, 2.0, 5.0]], pa.list_(pa.float32()))
    rows = rows.set_column(rows.column_names.index("values"), "values", worth)
    feed = replace(feed_of(), task="next_window")
    batch = next(feed.batches(lambda _: iter(rows.to_batches()), None, 1, 0.0))
    assert np.expm1(batch["target_value"]) == pytest.approx([7.0])


def test_only_target_types_are_learned() -> None:
    shop = known_since(0, catalog_of(9, types=("", "view", "buy")))
    rows = sequences_of([(1, 1.0), (2, 2.0), (3, 3.0)], types=[[1, 2, 1]])
    histories, found = replace(feed_of(), catalog=shop).examples(rows.to_batches()[0])
    assert len(histories) == 1
    assert found.items.tolist() == [2]


def test_a_feed_that_begins_later_gives_the_same_batches_from_there_on() -> None:
    whole = list(islice(feed_of().batches(NEW, OLD, 2, 0.5), 7))
    later = list(islice(feed_of().batches(NEW, OLD, 2, 0.5, start=4), 3))
    for one, other in zip(whole[4:], later, strict=True):
        assert all((one[name] == other[name]).all() for name in one)


def test_ranks_draw_the_same_negatives_for_the_same_step() -> None:
    few = {"full_softmax_items": 0, "negatives": 4}
    ranks = [replace(feed_of(40, seed, **few), common=7) for seed in (1, 1001)]
    for one, other in islice(zip(*(r.batches(NEW, None, 2, 0.0) for r in ranks), strict=True), 3):
        ours, theirs = (batch["pool"][batch["negatives"]] for batch in (one, other))
        assert ours.tolist() == theirs.tolist()
