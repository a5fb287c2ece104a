"""A network's variables as named arrays, and back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys_lib.model.network import Network


def named_arrays(network: Network) -> dict[str, NDArray[np.float32]]:
    """Values of all trainable variables; masked weights are zero, as a stripped model has them."""
    arrays = {}
    for name, layer in network.layers.items():
        masks = {}
        for variable in layer.non_trainable_variables:
            tail = variable.name.split("/")[-1].split(":")[0]
            if tail.startswith("mask"):
                masks[layer.pruning_vars[0][0].name] = variable
        for variable in layer.trainable_variables:
            tail = variable.name.split("/")[-1].split(":")[0]
            value = variable.numpy()
            if variable.name in masks:
                value = value * masks[variable.name].numpy()
            arrays[f"{name}/{tail}"] = value
    return arrays


def load_arrays(network: Network, arrays: dict[str, NDArray[np.float32]]) -> None:
    """Set every variable; shapes must fit (grow the arrays first)."""
    for name, variable in network.variables().items():
        variable.assign(arrays[name])
