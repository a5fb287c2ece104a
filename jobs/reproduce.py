"""Train a registered version again from its pinned data and settings, and compare the two.

  spark-submit jobs/reproduce.py --config conf/local.yaml --out build/demo --version 3

The Delta versions, the parent, the settings and the seed are those of the version's lineage; the
result stays beside it in models/reproduced-N and is not registered. It ends with an error where
the two models would not recommend the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jobs.context import Context, opened, parser, run
from jobs.shop import model_folder
from jobs.train import learn_and_ship, lesson
from recsys_lib.adapters.places import fetch
from recsys_lib.errors import TrackingError
from recsys_lib.settings import Settings, validate
from recsys_lib.train.lesson import Lesson
from recsys_lib.types import ModelVersion

CLOSE = 1e-3
"""Largest difference of a weight: ranks add in an order of their own."""


def lesson_of(
    context: Context, version: ModelVersion, settings: Settings, lineage: dict[str, Any]
) -> Lesson:
    """What the version was taught, to be taught again."""
    parent = lineage["parent"]
    return lesson(
        context,
        tuple(lineage["windows"]),
        lineage["tables"],
        settings,
        parent=model_folder(context, context.tracking.version(parent)) if parent else None,
        folder=str(context.out / "models" / f"reproduced-{version.version}"),
        lineage=lineage,
    )


def apart(one: dict[str, Any], other: dict[str, Any]) -> float:
    """The largest difference of any weight; infinite where shapes or names differ."""
    if {n: a.shape for n, a in one.items()} != {n: a.shape for n, a in other.items()}:
        return float("inf")
    return max(float(np.abs(one[name] - other[name]).max(initial=0)) for name in one)


def main(argv: list[str]) -> None:
    made = parser(__doc__)
    made.add_argument("--version", type=int, required=True, help="number in the registry")
    args = made.parse_args(argv)
    with opened(args, "reproduce") as context, context.alone_with_models("reproduce"):
        from recsys_lib.model.bundle import Bundle

        version = context.tracking.version(args.version)
        was = Bundle.load(context.tracking.local_path(version))
        own = {n: v for n, v in was.lineage.items() if n not in ("sparsity", "items")}
        settings = validate(Settings, own["settings"], f"lineage of {version.uri}", [])
        again = lesson_of(context, version, settings, own)
        again, _ = learn_and_ship(context, again, settings.compress)
        now = Bundle.load(fetch(again.folder))
        distance = apart(was.arrays, now.arrays)
        print(f"{version.uri}: largest difference of a weight {distance:.2g}, in {again.folder}")
        if distance > CLOSE:
            raise TrackingError(
                f"{version.uri} must come out within {CLOSE} of itself, got {distance:.2g}; are "
                "code, libraries and the number of ranks those it was trained with?"
            )


if __name__ == "__main__":
    run(main)
