from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from recsys_lib.model.bundle import Bundle
from recsys_lib.model.histories import Histories, Targets
from recsys_lib.model.inputs import inputs
from recsys_lib.model.network import Network
from recsys_lib.model.requests import select, select_targets
from recsys_lib.model.scorer import ModelScorer, spec_of
from recsys_lib.model.weights import load_arrays
from recsys_lib.settings import ModelSettings, TrainSettings
from recsys_lib.train.feed import Batch, Feed
from recsys_lib.train.loss import Answers, answers, distillation_loss, mixture_loss, rehearsed
from tests.evaluate.naive import targets_of
from tests.model.tiny import bundle_of, catalog_of, histories_of, learned_bundle, untraced

SHOP = catalog_of(
    items=6, buyers={1: 1.0, 2: 9.0, 5: 4.0}, attributes=[[0], [1], [1], [2], [2], [3], [3]]
)
HISTORIES = histories_of([(4, 6.0), (1, 8.5), (4, 8.5)], [], [(0, 3.0), (2, 9.0)])
TARGETS = targets_of([4, 2], [5], [2, 6, 1])
MODEL = ModelSettings(recent_events=8, copy_items=16, decay=0.9)


def batch_of(histories: Histories, targets: Targets, **train: float) -> Batch:
    """All examples count alike, unless it is said otherwise."""
    told = TrainSettings(**{"basket_weight": 0.0, **train})  # type: ignore[arg-type]
    feed = Feed(SHOP, "next_window", ("buy",), MODEL, told, seed=1)
    return feed._batch(histories, targets, np.random.default_rng(int(train.get("negatives", 0))))


def loss_of(bundle: Bundle, batch: Batch) -> float:
    network = Network(spec_of(bundle.spec), seed=0)
    load_arrays(network, bundle.arrays)
    tensors = {name: tf.constant(value) for name, value in batch.items()}
    lookups, stats = tf.constant(SHOP.lookups), tf.constant(SHOP.stats.values)
    return float(mixture_loss(answers(network, tensors, lookups, stats, False), tensors))


def by_hand(bundle: Bundle, histories: Histories, targets: Targets) -> float:
    """The mixture over all items, one example and one target at a time."""
    network = Network(spec_of(bundle.spec), seed=0)
    load_arrays(network, bundle.arrays)
    pool = network.pool(tf.range(SHOP.items + 1), tf.constant(SHOP.lookups))
    x = inputs(histories, 8, 16, 0.9, attributes=SHOP.attributes)
    tensors = {name: tf.constant(value) for name, value in x.as_dict().items()}
    stats = SHOP.stats.values[SHOP.stats.rows(histories.now)]
    context = network.user_context(tensors, pool)
    own = np.stack([stats[b][x.copy_items[b]] for b in range(len(histories))])
    copy_logits = network.copy_logits(tensors, context, pool, tf.constant(own)).numpy()
    gates = np.exp(np.asarray(network.gate(tensors, context))[:, 0]).astype(np.float64)
    user = network.user_vectors(context).numpy().astype(np.float64)
    rows = np.concatenate([pool.vectors, pool.bias], axis=1).astype(np.float64)
    total = 0.0
    for b in range(len(histories)):
        items = np.concatenate([rows, stats[b]], axis=1)
        explore = np.exp(items[1:] @ user[b])
        copied = np.where(x.copy_items[b] > 0, np.exp(np.maximum(copy_logits[b], -99.0)), 0.0)
        wanted = targets.items[targets.offsets[b] : targets.offsets[b + 1]]
        for item in wanted:
            p = (1 - gates[b]) * explore[item - 1] / explore.sum()
            if copied.sum():
                p += gates[b] * copied[x.copy_items[b] == item].sum() / copied.sum()
            total -= np.log(p) / len(wanted)
    return float(total / len(histories))


@pytest.mark.parametrize("bundle", [bundle_of(SHOP), learned_bundle(SHOP)], ids=["new", "learned"])
def test_loss_equals_the_mixture_over_all_items(bundle: Bundle) -> None:
    batch = batch_of(HISTORIES, TARGETS)
    assert loss_of(bundle, batch) == pytest.approx(by_hand(bundle, HISTORIES, TARGETS), abs=1e-4)


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_an_example_counts_as_its_number_of_targets_to_the_set_power(power: float) -> None:
    bundle = learned_bundle(SHOP)
    counts = np.diff(TARGETS.offsets) ** power
    alone = [
        by_hand(bundle, select(HISTORIES, np.array([b])), select_targets(TARGETS, np.array([b])))
        for b in range(len(HISTORIES))
    ]
    found = loss_of(bundle, batch_of(HISTORIES, TARGETS, basket_weight=power))
    assert found == pytest.approx(float(np.average(alone, weights=counts)), abs=1e-4)


def test_loss_is_what_the_scorer_will_be_asked_for() -> None:
    bundle = learned_bundle(SHOP)
    with untraced():
        items, scores = ModelScorer(bundle).top_k(HISTORIES, SHOP.items)
    total = 0.0
    for b in range(len(HISTORIES)):
        wanted = TARGETS.items[TARGETS.offsets[b] : TARGETS.offsets[b + 1]]
        total -= float(np.mean([scores[b][items[b] == item][0] for item in wanted]))
    found = loss_of(bundle, batch_of(HISTORIES, TARGETS))
    assert found == pytest.approx(total / len(HISTORIES), abs=1e-4)


def test_a_target_that_was_bought_before_gains_from_both_parts_of_the_mixture() -> None:
    bundle = learned_bundle(SHOP)
    past = histories_of([(4, 6.0), (1, 8.5)])
    batch = batch_of(past, targets_of([4]))
    only_new = {**batch, "target_copy": np.full_like(batch["target_copy"], -1)}
    assert batch["target_copy"].max() >= 0
    assert loss_of(bundle, batch) < loss_of(bundle, only_new)


def test_an_item_bought_twice_in_the_window_is_one_item_of_the_shop() -> None:
    bundle, twice = learned_bundle(SHOP), targets_of([5, 5, 3])
    alone = select(HISTORIES, np.array([0]))
    found = loss_of(bundle, batch_of(alone, twice))
    assert found == pytest.approx(by_hand(bundle, alone, twice), abs=1e-4)


def test_padding_of_targets_costs_nothing() -> None:
    bundle = learned_bundle(SHOP)
    batch = batch_of(HISTORIES, TARGETS)
    wider = {
        **batch,
        **{name: np.pad(batch[name], ((0, 0), (0, 3))) for name in ("targets", "target_weight")},
        **{
            name: np.pad(batch[name], ((0, 0), (0, 3)), constant_values=-1)
            for name in ("target_copy", "target_near")
        },
    }
    assert loss_of(bundle, wider) == pytest.approx(loss_of(bundle, batch), abs=1e-6)


def test_targets_of_half_the_weight_cost_half() -> None:
    bundle = learned_bundle(SHOP)
    batch = batch_of(HISTORIES, TARGETS)
    half = {**batch, "target_weight": batch["target_weight"] / 2}
    assert loss_of(bundle, half) == pytest.approx(loss_of(bundle, batch) / 2, rel=1e-5)


def test_sampled_negatives_cost_about_what_all_items_cost() -> None:
    bundle = learned_bundle(SHOP)
    exact = by_hand(bundle, HISTORIES, TARGETS)
    sampled = [
        loss_of(bundle, batch_of(HISTORIES, TARGETS, full_softmax_items=0, negatives=n))
        for n in range(300, 310)
    ]
    assert np.mean(sampled) == pytest.approx(exact, abs=0.02)
    assert np.std(sampled) > 0
    uncorrected = batch_of(HISTORIES, TARGETS, full_softmax_items=0, negatives=300)
    uncorrected["negatives_log_q"] = np.zeros_like(uncorrected["negatives_log_q"])
    assert abs(loss_of(bundle, uncorrected) - exact) > 0.5


def test_each_example_reads_the_statistics_of_its_own_window() -> None:
    values = np.zeros((2, *SHOP.stats.values.shape[1:]), dtype=np.float32)
    values[0, 3, 0] = values[1, 4, 0] = 3.0
    asked = replace(histories_of([], []), now=np.array([10.0, 11.0], dtype=np.float32))
    network = Network(spec_of(bundle_of(SHOP).spec), seed=0)
    batch = batch_of(asked, targets_of([3], [4]))

    def loss(rows: list[int]) -> float:
        x = {n: tf.constant(v) for n, v in {**batch, "stats_row": np.int32(rows)}.items()}
        lookups = tf.constant(SHOP.lookups)
        return float(mixture_loss(answers(network, x, lookups, tf.constant(values), False), x))

    assert loss([0, 1]) < loss([0, 0]) < loss([1, 0])


def told(bundle: Bundle, batch: Batch) -> Answers:
    network = Network(spec_of(bundle.spec), seed=0)
    load_arrays(network, bundle.arrays)
    tensors = {name: tf.constant(value) for name, value in batch.items()}
    return answers(
        network, tensors, tf.constant(SHOP.lookups), tf.constant(SHOP.stats.values), False
    )


def tensors_of(batch: Batch, rows: list[float]) -> dict[str, tf.Tensor]:
    marked = {**batch, "rehearsed": np.array(rows, np.float32)}
    return {name: tf.constant(value) for name, value in marked.items()}


def drawn_answers(seed: int) -> Answers:
    """Of nobody: 3 past items, 5 near ones, 4 negatives, for two examples."""
    random = np.random.default_rng(seed)
    shapes = {"copied": 3, "near": 5, "negatives": 4, "targets": 2, "gate": 3}
    parts = {
        n: tf.constant(random.normal(size=(2, width)), tf.float32) for n, width in shapes.items()
    }
    parts["gate"] = tf.nn.log_softmax(parts["gate"])
    return Answers(**parts, value=tf.zeros(2))


def as_drawn(log_q: list[float]) -> dict[str, tf.Tensor]:
    return {"negatives_log_q": tf.constant(log_q, tf.float32)}


def test_a_student_who_says_the_same_costs_nothing() -> None:
    batch = batch_of(HISTORIES, TARGETS)
    same = told(learned_bundle(SHOP), batch)
    x = {name: tf.constant(value) for name, value in batch.items()}
    assert float(distillation_loss(same, same, x)) == pytest.approx(0.0, abs=1e-6)


def test_distillation_is_the_divergence_of_the_whole_mixture() -> None:
    teacher, student = drawn_answers(1), drawn_answers(2)

    def mixture(told: Answers) -> np.ndarray:
        """Log of the share of each item of each part."""
        parts = [told.copied, told.near, told.negatives]
        shares = tf.split(told.gate, len(parts), 1)
        logs = [share + tf.nn.log_softmax(p) for share, p in zip(shares, parts, strict=True)]
        return np.asarray(tf.concat(logs, 1))

    log_p, log_q = mixture(teacher), mixture(student)
    wanted = (np.exp(log_p) * (log_p - log_q)).sum(1).mean()
    got = float(distillation_loss(teacher, student, as_drawn([0.0] * 4)))
    assert got == pytest.approx(wanted, rel=1e-5)


def test_a_negative_that_is_drawn_often_counts_as_one() -> None:
    teacher, student = drawn_answers(1), drawn_answers(2)
    often = [0, 0, 0, 1, 2, 3]

    def repeated(told: Answers) -> Answers:
        return replace(told, negatives=tf.gather(told.negatives, often, axis=1))

    once = float(distillation_loss(teacher, student, as_drawn([0.0] * 4)))
    log_q = [float(np.log(often.count(negative))) for negative in often]
    again = float(distillation_loss(repeated(teacher), repeated(student), as_drawn(log_q)))
    assert again == pytest.approx(once, rel=1e-5)


def test_a_student_who_strays_pays_only_on_rehearsed_rows() -> None:
    batch, users = batch_of(HISTORIES, TARGETS), len(HISTORIES)
    student = told(learned_bundle(SHOP, 2), batch)
    master = Network(spec_of(bundle_of(SHOP).spec), seed=0)
    load_arrays(master, learned_bundle(SHOP, 1).arrays)
    lookups, stats = tf.constant(SHOP.lookups), tf.constant(SHOP.stats.values)

    def loss(rows: list[float]) -> float:
        asked, said = rehearsed(tensors_of(batch, rows), student)
        right = answers(master, asked, lookups, stats, False)
        return float(distillation_loss(right, said, asked))

    each = [loss(np.eye(users)[row].tolist()) for row in range(users)]
    assert min(each) > 0
    assert loss([1.0] * users) == pytest.approx(np.mean(each), rel=1e-4)
    assert loss([0.0] * users) == 0.0
