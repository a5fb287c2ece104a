"""The part of the network that is a function of one request, as a LiteRT model.

The SavedModel beside it is the same function; it answers where LiteRT cannot be loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_lib.model.quiet import silent

Floats = NDArray[np.float32]
LITERT, SAVED = "encoder.tflite", "saved_model"
INPUTS = ("events", "facts", "mask", "user")
CAUSAL = "causal"
MASKED = -1e9
BATCH = 8
"""Requests that a graph reads together: what it holds of them stays near the processor."""


def encoder_of(
    content: bytes, saved: str | Path, threads: int = 1, *, tensorflow: bool = False
) -> Encoder | SavedEncoder:
    """Of LiteRT; of the SavedModel where that is asked for, or LiteRT cannot be loaded."""
    if tensorflow:
        return SavedEncoder(saved)
    try:
        with silent():
            import ai_edge_litert.interpreter  # noqa: F401
    except ImportError:
        return SavedEncoder(saved)
    return Encoder(content, threads)


class Encoder:
    """events, facts, mask, user -> one row of outputs for each request (see compress.export).

    Inputs are float32: events [B, L, D], facts [B, L, F], mask [B, 1, L] (0, or MASKED where there
    is no event), user [B, ...]; the graph's own `causal` [1, L, L] hides what is later. Graphs are
    made for the widths that are asked for, and kept.
    """

    def __init__(self, content: bytes, threads: int = 1) -> None:
        self._content, self._threads = content, threads
        self._graphs: dict[tuple[int, int], Callable[..., Floats]] = {}

    def __call__(self, events: Floats, facts: Floats, mask: Floats, user: Floats) -> Floats:
        count, width = mask.shape[0], mask.shape[2]
        rows = 1 if count == 1 else BATCH
        graph = self._graph(rows, width)
        if count == rows:
            return graph(events, facts, mask, user)
        parts = []
        for start in range(0, count, rows):
            given = [value[start : start + rows] for value in (events, facts, mask, user)]
            have = len(given[0])
            padded = [
                np.concatenate([v, np.zeros((rows - have, *v.shape[1:]), v.dtype)]) for v in given
            ]
            parts.append(graph(*padded)[:have])
        return np.concatenate(parts)

    def _graph(self, rows: int, width: int) -> Callable[..., Floats]:
        if (rows, width) not in self._graphs:
            with silent():
                self._graphs[rows, width] = _litert(self._content, rows, width, self._threads)
        return self._graphs[rows, width]


def _litert(content: bytes, rows: int, width: int, threads: int) -> Callable[..., Floats]:
    from ai_edge_litert.interpreter import Interpreter

    graph = Interpreter(model_content=content, num_threads=threads)
    known = {str(d["name"]).split(":")[0].split("_", 2)[-1]: d for d in graph.get_input_details()}
    places = {name: known[name]["index"] for name in known}
    for name, place in places.items():
        shape = [int(size) for size in known[name]["shape_signature"]]
        sizes = [rows if name != CAUSAL else 1]
        graph.resize_tensor_input(place, [*sizes, *(width if s < 0 else s for s in shape[1:])])
    graph.allocate_tensors()
    if CAUSAL in places:
        graph.set_tensor(places[CAUSAL], causal(width))
    order = [places[name] for name in INPUTS]
    answer = graph.get_output_details()[0]["index"]

    def run(*values: Floats) -> Floats:
        for place, value in zip(order, values, strict=True):
            graph.set_tensor(place, value)
        graph.invoke()
        return np.asarray(graph.get_tensor(answer))

    return run


class SavedEncoder:
    """The same by TensorFlow."""

    def __init__(self, folder: str | Path) -> None:
        from recsys_lib.model.tensorflow import tf

        self._model: Any = tf.saved_model.load(str(folder))

    def __call__(self, events: Floats, facts: Floats, mask: Floats, user: Floats) -> Floats:
        return np.asarray(self._model(events, facts, mask, causal(mask.shape[2]), user))


def causal(width: int) -> Floats:
    """What is later is not seen: [1, L, L]."""
    later = np.triu(np.ones((1, width, width), np.float32), 1)
    return later * np.float32(MASKED)
