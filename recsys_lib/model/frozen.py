"""A model as it was shipped and never touched again: neither its weights nor its state are kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from recsys_lib.model.histories import Floats, Histories, Ints
from recsys_lib.model.ragged import offsets_of
from recsys_lib.model.scorer import ModelScorer


class FrozenScorer:
    """Answers as on the day the model was made: with the items and counts of then and, for
    returning users, with what they had done by then. A session is still read as it comes."""

    def __init__(self, scorer: ModelScorer, name: str) -> None:
        self.name = name
        self._scorer = scorer
        self._until = float(scorer.bundle.learned + 1)
        self._sessions = scorer.bundle.task == "next_item"

    def top_k(
        self, histories: Histories, k: int, *, exclude_seen: bool = False
    ) -> tuple[Ints, Floats]:
        """See Scorer."""
        if not self._sessions:
            histories = self._as_it_was(histories)
        return self._scorer.top_k(histories, k, exclude_seen=exclude_seen)

    def _as_it_was(self, histories: Histories) -> Histories:
        kept = ~(histories.at >= self._until)
        lengths = np.bincount(histories.row[kept], minlength=len(histories))
        return replace(
            histories,
            offsets=offsets_of(lengths.astype(np.int64)),
            items=histories.items[kept],
            types=histories.types[kept],
            at=histories.at[kept],
            values=None if histories.values is None else histories.values[kept],
            now=np.minimum(histories.now, np.float32(self._until)),
        )
