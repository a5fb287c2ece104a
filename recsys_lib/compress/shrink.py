"""Pruned weights say which heads and neurons matter; the others are removed for good.

A group (an attention head, a neuron of the feed-forward part) counts by the norm of all its
weights. Zeros alone shorten no answer; a network without the groups does (Molchanov et al. 2017;
Michel, Levy and Neubig 2019 on heads).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_lib.compress.widths import target, widths
from recsys_lib.model.bundle import Arrays, Bundle
from recsys_lib.model.scorer import spec_of

Kept = dict[str, tuple[int, NDArray[np.int64]]]
"""Variable name -> (axis, places on it that stay)."""


def shrunk(bundle: Bundle, heads: float, neurons: float, line: Sequence[Bundle] = ()) -> Bundle:
    """The bundle with these shares of the heads and neurons of its widest form, at least one each.

    What counts least goes. `line` holds earlier versions of the same widths: the norms are means
    over them and the bundle, so that one increment's noise does not decide. Optimiser slots follow
    their weights.
    """
    spec = spec_of(bundle.spec)
    peers = [bundle, *(b for b in line if widths(b.spec) == widths(bundle.spec))]
    kept: Kept = {}
    left_heads, left_neurons = target(bundle.spec, heads, neurons)
    for b in range(spec.blocks):
        norms = np.mean([_head_norms(peer.arrays, b, spec.size_of_head) for peer in peers], 0)
        rows = _spread(_largest(norms, left_heads[b]), spec.size_of_head)
        for part in ("query", "key", "value"):
            kept |= {f"block_{b}_{part}/kernel": (1, rows), f"block_{b}_{part}/bias": (0, rows)}
        kept[f"block_{b}_mixed/kernel"] = (0, rows)
        norms = np.mean([_neuron_norms(peer.arrays, b) for peer in peers], 0)
        rows = _largest(norms, left_neurons[b])
        kept |= {f"block_{b}_inner/kernel": (1, rows), f"block_{b}_inner/bias": (0, rows)}
        kept[f"block_{b}_outer/kernel"] = (0, rows)
    sizes: dict[str, Any] = {
        "head_size": spec.size_of_head,
        "block_heads": list(left_heads),
        "block_neurons": list(left_neurons),
    }
    return replace(
        bundle,
        spec={**bundle.spec, **sizes},
        arrays=_cut(bundle.arrays, kept),
        optimizer=_cut(bundle.optimizer, kept),
    )


def _head_norms(arrays: Arrays, b: int, size: int) -> NDArray[np.float64]:
    """Norm of each head: its columns of query, key and value, its rows of what mixes them."""
    parts = [arrays[f"block_{b}_{part}/kernel"] for part in ("query", "key", "value")]
    weights = np.concatenate([*parts, arrays[f"block_{b}_mixed/kernel"].T]).astype(np.float64)
    squares = np.square(weights).sum(0).reshape(-1, size)
    return np.sqrt(squares.sum(1))


def _neuron_norms(arrays: Arrays, b: int) -> NDArray[np.float64]:
    weights = np.concatenate(
        [arrays[f"block_{b}_inner/kernel"], arrays[f"block_{b}_outer/kernel"].T]
    )
    return np.sqrt(np.square(weights.astype(np.float64)).sum(0))


def _largest(norms: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Places of the `count` largest, in their old order."""
    return np.sort(np.argsort(-norms, kind="stable")[:count])


def _spread(heads: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    return (heads[:, None] * size + np.arange(size)).reshape(-1)


def _cut(arrays: Arrays, kept: Kept) -> Arrays:
    """Each array (or slot of it) at the places that stay."""
    out = {}
    for name, array in arrays.items():
        axis, places = kept.get(name.split("|")[0], (0, None))
        out[name] = array if places is None else np.take(array, places, axis)
    return out
