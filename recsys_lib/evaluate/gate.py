"""The promotion gate: a candidate becomes champion only when it is proven better, or smaller and
proven hardly worse.

Both answered the same requests of the same users before either had learned them. One composite of
the metrics named in `gate.weights` decides; no slice may lose more than `gate.slice_floor`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from recsys_lib.evaluate.intervals import ALL, Replicates, estimate
from recsys_lib.evaluate.metrics import NEW, Doubles
from recsys_lib.settings import GateSettings
from recsys_lib.types import Verdict

NEW_ITEMS = "new items"


def judge(
    candidate: Mapping[str, Replicates],
    champion: Mapping[str, Replicates] | None,
    settings: GateSettings,
    strange: Sequence[str] = (),
    may_lose: float | None = None,
) -> Verdict:
    """Compare by slice (see `intervals.by_slice`), paired by user. `champion` None: there is none.

    `may_lose`: the relative loss that is a fair price for a smaller model; None: the candidate is
    as large as the champion, and must gain.

    `strange` says what is wrong with the increments that only the candidate has learned (see
    `anomalies`): with any of it there is no promotion, however good it looks.

    An empty mapping is a model that nobody was judged on: an empty window promotes nothing.
    The verdict's difference is absolute; its `low` is the one-sided bound at gate.confidence.
    """
    if champion is None:
        return Verdict(True, ("there is no champion yet: the first version is promoted",))
    if ALL not in candidate or ALL not in champion:
        return Verdict(False, ("nobody could be judged on this window: the champion stays",))
    whole = candidate[ALL]
    if whole.users < settings.min_users:
        asked = f"gate.min_users is {settings.min_users:,}, judged were {whole.users:,}"
        return Verdict(False, (f"too few users to judge ({asked}): the champion stays",))
    ours = composite(whole.means, settings.weights)
    theirs = composite(champion[ALL].means, settings.weights)
    gap = estimate(ours - theirs, 2.0 * settings.confidence - 1.0)
    relative = estimate(_relative(ours, theirs), 2.0 * settings.confidence - 1.0)
    least = settings.min_gain if may_lose is None else -may_lose
    enough = bool(relative.low > least)
    sure = f"{settings.confidence:.0%} sure of more than {relative.low:+.1%}"
    need = f"needed more than {least:+.1%}{'' if may_lose is None else ', being smaller'}"
    name = " + ".join(f"{weight:g} {metric}" for metric, weight in settings.weights.items())
    aim = "better" if least >= 0 or relative.low > 0 else "good enough"
    found = aim if enough else f"not proven {aim}"
    numbers = f"{ours[0]:.4f} against {theirs[0]:.4f} ({relative.value:+.1%}; {sure}, {need})"
    reason = f"{found} on {whole.users:,} users: {name} is {numbers}"
    losses = _floors(candidate, champion, settings)
    promote = enough and not losses and not strange
    reasons = [reason, *losses, *strange, "promoted" if promote else "the champion stays"]
    return Verdict(promote, tuple(reasons), gap)


def composite(means: Mapping[str, Doubles], weights: Mapping[str, float]) -> Doubles:
    """Weighted sum of metrics, replicate by replicate."""
    parts = [weight * means[metric] for metric, weight in weights.items()]
    return np.asarray(np.sum(parts, axis=0))


def _floors(
    candidate: Mapping[str, Replicates],
    champion: Mapping[str, Replicates],
    settings: GateSettings,
) -> list[str]:
    """One reason for every slice that loses too much. Items new to the user are a slice."""
    fresh = _among_new(settings.weights, candidate[ALL].means)
    judged = [
        (name, part.users, part, champion[name], settings.weights)
        for name, part in candidate.items()
        if name in champion and name != ALL
    ]
    if fresh:
        whole = candidate[ALL]
        judged = [*judged, (NEW_ITEMS, whole.new_users, whole, champion[ALL], fresh)]
    out = []
    for name, users, ours, theirs, weights in judged:
        if users < settings.min_slice_users:
            continue
        change = _relative(composite(ours.means, weights), composite(theirs.means, weights))
        if change[0] < -settings.slice_floor:
            floor = f"floor {-settings.slice_floor:+.1%}"
            out.append(f"slice {name} loses: {change[0]:+.1%} on {users:,} users ({floor})")
    return out


def _among_new(weights: Mapping[str, float], means: Mapping[str, Doubles]) -> dict[str, float]:
    """The same weights of what is measured among new items: novelty and its like are not."""
    out: dict[str, float] = {}
    for metric, weight in weights.items():
        name = f"{NEW}{metric.removeprefix(NEW)}"
        if name in means:
            out[name] = out.get(name, 0.0) + weight
    return out


def _relative(ours: Doubles, theirs: Doubles) -> Doubles:
    """Gain over `theirs`; where that is 0, any gain counts as 100 %."""
    gap = ours - theirs
    return np.where(theirs > 0, gap / np.where(theirs > 0, theirs, 1.0), np.sign(gap))
