"""A learned bundle -> the serving bundle that is shipped of it."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from recsys_lib.compress.encoder import EncoderModule, litert
from recsys_lib.errors import ModelError
from recsys_lib.model.bundle import Bundle
from recsys_lib.model.histories import Histories
from recsys_lib.model.network import HEADS, Network
from recsys_lib.model.quiet import uncompiled
from recsys_lib.model.scorer import ModelScorer, spec_of
from recsys_lib.model.shipped.bundle import FOLDER, Shipped
from recsys_lib.model.shipped.encoder import SAVED
from recsys_lib.model.shipped.golden import Golden
from recsys_lib.model.shipped.rows import Rows
from recsys_lib.model.shipped.scorer import ShippedScorer
from recsys_lib.model.tensorflow import tf
from recsys_lib.model.weights import load_arrays
from recsys_lib.settings import CompressSettings
from recsys_lib.types import Form

WEIGHTS = (
    *(layer for layers in HEADS.values() for layer in layers),
    *("copy_item", "copy_types", "attribute_hidden", "attribute_out"),
)
"""Layers of the heads and of the attribute tower: answers are made of these beside the encoder."""
LOSSY = 0.75, 0.25
"""What eight bits and an estimate may cost: see `Golden.fault`."""


def export(
    bundle: Bundle,
    folder: str | Path,
    settings: CompressSettings,
    golden: Histories | None = None,
    form: Form = "dense",
) -> Path:
    """Write `folder`/serving; its answers to the `golden` histories go with it.

    The bundle proves itself before it is in place: it is loaded again and asked. Raises ModelError
    where it does not answer as the network does.
    """
    target = Path(folder) / FOLDER
    spec = spec_of(bundle.spec)
    module = EncoderModule(spec, bundle.arrays)
    network = Network(spec, seed=0)
    load_arrays(network, bundle.arrays)
    shop = bundle.catalog
    pool = network.pool(tf.range(shop.items + 1), tf.constant(shop.lookups))
    with tempfile.TemporaryDirectory() as made, uncompiled():
        saved = Path(made) / SAVED
        tf.saved_model.save(module, str(saved))
        shipped = Shipped(
            spec=spec.as_dict(),
            form="int8" if settings.bits == 8 else form,
            task=bundle.task,
            targets=bundle.targets,
            learned=bundle.learned,
            decay=bundle.decay,
            copy_items=bundle.copy_items,
            lineage={k: v for k, v in bundle.lineage.items() if k in ("time", "axis", "mapping")},
            vocabulary_version=bundle.lineage.get("tables", {}).get("vocabulary", 0),
            search={"ann_items": settings.ann_items},
            encoder=litert(module, settings.encoder_bits),
            saved=saved,
            vectors=Rows.of(pool.vectors.numpy(), settings.bits),
            biases=tf.concat([pool.bias, pool.copy_bias], 1).numpy(),
            tables=_tables(bundle, settings.bits),
            weights={
                name: array
                for name, array in bundle.arrays.items()
                if name.split("/")[0] in WEIGHTS
            },
            typical=np.append(bundle.arrays["popularity/bias"], 1.0).astype(np.float32),
            catalog=replace(shop, rows=None),
        )
        if golden is not None:
            # The answers are those of what was read back, so a lossy file is lossy once.
            shipped.save(Path(made) / FOLDER)
            again = Shipped.load(Path(made) / FOLDER)
            scorer = ShippedScorer(again)
            _prove(scorer, _learned(bundle, golden), settings)
            shipped = replace(again, saved=saved, golden=Golden.answered(scorer, golden))
        shipped.save(target)
    return target


def _learned(bundle: Bundle, golden: Histories) -> Golden:
    """What the network says. One batch: to make a graph for it would take longer than to answer."""
    tf.config.run_functions_eagerly(True)
    try:
        return Golden.answered(ModelScorer(bundle), golden)
    finally:
        tf.config.run_functions_eagerly(False)


def _prove(scorer: ShippedScorer, learned: Golden, settings: CompressSettings) -> None:
    summed = scorer.bundle.catalog.items <= settings.ann_items
    exact = settings.bits == settings.encoder_bits == 32 and summed
    fault = learned.fault(scorer) if exact else learned.fault(scorer, *LOSSY)
    if fault:
        raise ModelError(
            f"what is shipped must answer as the model it is made of, {fault}; nothing was put in "
            "place: set compress.bits and compress.encoder_bits to 32, or compress.ann_items higher"
        )


def _tables(bundle: Bundle, bits: int) -> dict[str, Rows]:
    names = ["types", "positions"]
    names += [f"attribute_{i}" for i in range(len(bundle.spec["attributes"]))]
    names += [f"profile_{i}" for i in range(len(bundle.spec["profile"]))]
    return {name: Rows.of(bundle.arrays[f"{name}/embeddings"], bits) for name in names}
