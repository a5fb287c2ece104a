"""What may be offered now, of what a model would."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys_lib.model.histories import Floats, Histories, Ints, Scorer


def offered(
    scorer: Scorer,
    histories: Histories,
    k: int,
    gone: NDArray[np.bool_],
    *,
    exclude_seen: bool = False,
) -> tuple[Ints, Floats]:
    """Best k items of each history (see Scorer) that are not `gone`: bool [N + 1].

    The scorer is asked for more until nobody's slate is short, or there is no more.
    """
    most = len(gone) - 1
    wanted = min(k + int(gone.sum()), 2 * k)
    while True:
        found, scores = scorer.top_k(histories, wanted, exclude_seen=exclude_seen)
        kept = (found > 0) & ~gone[found]
        short = (kept.sum(1) < k) & (found > 0).all(1)
        if not short.any() or wanted >= most:
            break
        wanted = min(4 * wanted, most)
    first = np.argsort(~kept, axis=1, kind="stable")[:, :k]
    items = np.take_along_axis(np.where(kept, found, 0), first, 1)
    return items, np.take_along_axis(np.where(kept, scores, np.float32(-np.inf)), first, 1)
