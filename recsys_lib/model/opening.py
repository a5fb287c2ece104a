"""A version's folder, opened to answer: what was shipped of it, or what was learned."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from recsys_lib.model.bundle import Bundle
from recsys_lib.model.catalog import Catalog
from recsys_lib.model.shipped.bundle import FOLDER
from recsys_lib.model.shipped.scorer import ShippedScorer
from recsys_lib.settings import Answering

if TYPE_CHECKING:
    from recsys_lib.model.scorer import ModelScorer


def open_scorer(
    folder: str | Path,
    catalog: Catalog | None = None,
    name: str = "model",
    form: Answering = "shipped",
) -> ModelScorer | ShippedScorer:
    """The scorer of a version; `learned` is the network itself, in TensorFlow.

    Versions that were never exported answer by their network. Raises ModelError.
    """
    serving = Path(folder) / FOLDER
    if form == "shipped" and serving.exists():
        return ShippedScorer.open(serving, catalog, name=name)
    from recsys_lib.model.scorer import (
        ModelScorer,
    )  # TensorFlow, which what is shipped does without

    return ModelScorer(Bundle.load(folder), catalog, name)
