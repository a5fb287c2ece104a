"""Pruned weights say which heads and neurons matter; the others are removed for good.

A group (an attention head, a neuron of a hidden layer) counts by the norm of all its weights. Zeros
alone shorten no answer; a network without the groups does (Molchanov et al. 2017; Michel, Levy and
Neubig 2019 on heads).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_lib.compress.widths import Shares, target, widths
from recsys_lib.model.bundle import Arrays, Bundle
from recsys_lib.model.network import HEADS, Spec
from recsys_lib.model.scorer import spec_of

Places = NDArray[np.int64]
Kept = dict[str, dict[int, Places]]
"""Variable name -> axis -> places on it that stay."""


def shrunk(bundle: Bundle, shares: Shares, line: Sequence[Bundle] = ()) -> Bundle:
    """The bundle with these shares of the heads and neurons of its widest form, at least one each.

    What counts least goes. `line` holds earlier versions of the same widths: the norms are means
    over them and the bundle, so that one increment's noise does not decide. Optimiser slots follow
    their weights.
    """
    spec, left = spec_of(bundle.spec), target(bundle.spec, shares)
    peers = [bundle, *(b for b in line if widths(b.spec) == widths(bundle.spec))]
    lines = [peer.arrays for peer in peers]
    kept: Kept = defaultdict(dict)
    for b in range(spec.blocks):
        _keep_heads(kept, lines, spec, b, left.heads[b])
        _keep_neurons(kept, lines, f"block_{b}_inner", f"block_{b}_outer", left.neurons[b])
    for layers in HEADS.values():
        for layer, after in pairwise(layers):
            _keep_neurons(kept, lines, layer, after, left.copy_neurons)
    sizes: dict[str, Any] = {
        "head_size": spec.size_of_head,
        "block_heads": list(left.heads),
        "block_neurons": list(left.neurons),
        "copy_neurons": left.copy_neurons,
    }
    return replace(
        bundle,
        spec={**bundle.spec, **sizes},
        arrays=_cut(bundle.arrays, kept),
        optimizer=_cut(bundle.optimizer, kept),
    )


def shortened(bundle: Bundle, read_events: int, copy_items: int) -> Bundle:
    """The bundle, its Transformer reading no more of the latest events, and ranking no more past
    items."""
    reads = min(read_events, spec_of(bundle.spec).reads)
    # A position is counted from the decision back; row 0 stands for none.
    kept: Kept = {"positions/embeddings": {0: np.arange(reads + 1)}}
    return replace(
        bundle,
        spec={**bundle.spec, "read_events": reads},
        arrays=_cut(bundle.arrays, kept),
        optimizer=_cut(bundle.optimizer, kept),
        copy_items=min(copy_items, bundle.copy_items),
    )


def _keep_heads(kept: Kept, lines: Sequence[Arrays], spec: Spec, b: int, count: int) -> None:
    """A head is its columns of query, key and value, and its rows of what mixes them."""
    parts, mixed = [f"block_{b}_{part}" for part in ("query", "key", "value")], f"block_{b}_mixed"
    size = spec.size_of_head
    heads = _largest(_norms(lines, parts, mixed, size), count)
    _keep(kept, parts, mixed, (heads[:, None] * size + np.arange(size)).reshape(-1))


def _keep_neurons(kept: Kept, lines: Sequence[Arrays], layer: str, after: str, count: int) -> None:
    """A neuron is its column of a layer, and its row of the layer after it."""
    _keep(kept, [layer], after, _largest(_norms(lines, [layer], after), count))


def _norms(
    lines: Sequence[Arrays], layers: Sequence[str], after: str, size: int = 1
) -> NDArray[np.float64]:
    """Of each `size` outputs of the layers, with what reads them `after`; mean over versions."""
    found = []
    for arrays in lines:
        kernels = [*(arrays[f"{layer}/kernel"] for layer in layers), arrays[f"{after}/kernel"].T]
        squares = np.square(np.concatenate(kernels).astype(np.float64)).sum(0)
        found.append(np.sqrt(squares.reshape(-1, size).sum(1)))
    return np.asarray(np.mean(found, 0))


def _keep(kept: Kept, layers: Sequence[str], after: str, places: Places) -> None:
    for layer in layers:
        kept[f"{layer}/kernel"][1] = kept[f"{layer}/bias"][0] = places
    kept[f"{after}/kernel"][0] = places


def _largest(norms: NDArray[np.float64], count: int) -> Places:
    """Places of the `count` largest, in their old order."""
    return np.sort(np.argsort(-norms, kind="stable")[:count])


def _cut(arrays: Arrays, kept: Kept) -> Arrays:
    """Each array (or slot of it) at the places that stay."""
    out = dict(arrays)
    for name in arrays:
        for axis, places in kept.get(name.split("|")[0], {}).items():
            out[name] = np.take(out[name], places, axis)
    return out
