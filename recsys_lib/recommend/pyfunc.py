"""`mlflow.pyfunc.load_model("models:/NAME@champion")` comes here."""

from __future__ import annotations

from typing import Any


class PyFunc:
    """predict(frame with request_id and items) -> frame of request_id, items, scores."""

    def __init__(self, folder: str) -> None:
        from recsys_lib.model.opening import open_scorer
        from recsys_lib.recommend.histories import Asking, Clock

        self.scorer = open_scorer(folder)
        bundle = self.scorer.bundle
        clock = Clock.of(bundle.lineage)
        self.asking = Asking(bundle.catalog, clock, bundle.task, bundle.learned, bundle.targets)

    def predict(self, frame: Any, params: dict[str, Any] | None = None) -> Any:
        """The best `params["k"]` (default 20) items; `params["exclude_seen"]` leaves out known."""
        import pyarrow as pa

        options = params or {}
        ids, histories = self.asking.histories(pa.Table.from_pandas(frame, preserve_index=False))
        exclude = bool(options.get("exclude_seen", False))
        items, scores = self.scorer.top_k(
            histories, int(options.get("k", 20)), exclude_seen=exclude
        )
        return self.asking.answers(ids, items, scores).to_pandas()


def _load_pyfunc(path: str) -> PyFunc:
    return PyFunc(path)
