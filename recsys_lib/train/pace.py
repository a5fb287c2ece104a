"""How many steps a lesson has, of how many examples, and how fast each learns: fitted to the ranks
that there are."""

from __future__ import annotations

import math

from recsys_lib.train.lesson import Lesson

SHORT = 1000
"""Steps of a lesson up to which the heads of past and near items learn at their highest rate."""
PLAIN = 32
"""Neurons of a head that needs no other rate than all else where lessons are long."""


def pass_size(lesson: Lesson, ranks: int) -> int:
    """Examples of one pass of a rank: equal parts of the whole, as far as its memory goes."""
    part = max(1, lesson.train.batch_size // ranks // lesson.ranks.passes)
    return min(part, lesson.ranks.max_batch or part)


def steps_of(lesson: Lesson, examples: int, targets: int, whole: int, first: bool) -> int:
    """`whole`: examples of a step over all ranks. A first model of few examples passes over them
    more than once or twice, the more often the more targets they have: these are what it can
    learn, and of few it learns by heart who they were."""
    train = lesson.train
    least = train.increment_steps
    if first:
        most = min(examples * train.min_steps_epochs, targets * train.min_steps_targets)
        least = min(train.min_steps, max(least, math.ceil(most / whole)))
    return max(least, _steps_as_set(lesson, examples, whole, first))


def _steps_as_set(lesson: Lesson, examples: int, whole: int, first: bool) -> int:
    """Those of as many passes as are set, however few they are."""
    train = lesson.train
    epochs = train.epochs if first else train.increment_epochs
    share = 1 + (train.rehearsal if lesson.rehearse else 0.0)
    return math.ceil(examples * share * epochs / whole)


def highest_rate(lesson: Lesson, steps: int, whole: int, first: bool) -> float:
    """In proportion lower where a step has fewer examples than were asked for.

    How far a fine-tune moves the weights is its rate times its steps: one shorter than
    `increment_rate_steps` learns in proportion faster, at most as fast as a first model.
    """
    train = lesson.train
    share = min(1.0, whole / train.batch_size)
    if first:
        return train.learning_rate * share
    plain = train.increment_learning_rate
    faster = plain * train.increment_rate_steps / max(1.0, steps * share)
    return max(plain, min(faster, train.learning_rate)) * share


def heads_pace(lesson: Lesson, steps: int, examples: int, whole: int, neurons: int) -> float:
    """The rate of the heads of past and near items, of so many `neurons`, in times that of all
    else.

    A long lesson teaches them enough by itself, a long fine-tune forgets at a high rate, theirs as
    any (see `highest_rate`), and a first model that passes over few examples again and again would
    learn these by heart. There a head of PLAIN neurons learns as all else; in a wider one more
    weights move at once, each so much less.
    """
    train, first = lesson.train, lesson.parent is None
    least = min(1.0, PLAIN / neurons)
    if first and steps > _steps_as_set(lesson, examples, whole, first):
        return least
    short = SHORT if first or lesson.teacher else train.increment_rate_steps
    return max(least, train.heads_rate * min(1.0, short / steps) ** 2)


def kept_share(lesson: Lesson, steps: int, whole: int) -> float:
    """How much of the way from its parent's weights a fine-tune's are kept.

    All of one at `increment_learning_rate`, and of one that learns faster so much less, at least
    `increment_share`: it strays. All of what a wide model teaches: its parent knew nothing yet.
    """
    train = lesson.train
    if lesson.teacher:
        return 1.0
    plain = train.increment_learning_rate * min(1.0, whole / train.batch_size)
    return max(train.increment_share, plain / highest_rate(lesson, steps, whole, first=False))


def schedule(step: int, steps: int, warmup: float) -> float:
    """Linear warm-up, then a half cosine down to a twentieth."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    done = (step - rising) / max(1, steps - rising)
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done))
