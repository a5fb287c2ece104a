"""What the benchmarks of models share: which windows are judged, their options, their logs."""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.benchmarks.reporting import FOLDER
from tests.benchmarks.shops import Landed, landed_shop, shops

DECIDES = {"model", "train", "prune", "compress", "features", "evaluate"}
"""The sections of settings that what is measured depends on."""


@dataclass(frozen=True)
class Course:
    """The last window that the first model knows, the last that is judged; how often a `full`
    retrain is due."""

    first: int
    last: int
    every: int = 1


def options(text: str | None, courses: Mapping[str, Course]) -> argparse.ArgumentParser:
    """The command line of a benchmark of models."""
    made = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--shops", nargs="+", default=list(courses), choices=list(courses))
    made.add_argument("--first", type=int, metavar="WINDOW", help="last of the first model")
    made.add_argument("--history", type=int, metavar="N", help="windows that land at once")
    made.add_argument("--last", type=int, metavar="WINDOW", help="judge no later window")
    made.add_argument("--data", default="../shared/data", help="folder of the logs without package")
    made.add_argument("--short", action="store_true", help="a few windows: a smoke test")
    made.add_argument("--fresh", action="store_true", help="forget what was measured before")
    made.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    return made


def landed_courses(
    args: argparse.Namespace, name: str, courses: Mapping[str, Course], short: Mapping[str, Course]
) -> Iterator[tuple[Landed, Course, Path]]:
    """Each log that is there, landed, its course, and the folder of what is measured of it.

    The folder is another one for other settings, so that nothing is taken for what it is not.
    """
    chosen = short if args.short else {shop: courses[shop] for shop in args.shops}
    for shop_name, course in chosen.items():
        shop = shops(args.data, args.short)[shop_name]
        if not shop.there():
            print(f"{shop_name}: not measured: {shop.events} is not there; see --data")
            continue
        shop = replace(shop, history=args.history or shop.history)
        apart = f"-{args.history}" if args.history else ""
        folder = FOLDER / ("shops-short" if args.short else "shops") / f"{shop_name}{apart}"
        asked = args.first is not None
        course = Course(
            args.first if asked else course.first, args.last or course.last, course.every
        )
        with landed_shop(shop, folder, args.set, course.last) as landed:
            text = json.dumps(decides(landed), sort_keys=True) + (str(args.first) if asked else "")
            text += apart
            told = hashlib.sha256(text.encode()).hexdigest()[:8]
            root = FOLDER / (f"{name}-short" if args.short else name) / f"{shop_name}-{told}"
            if args.fresh:
                shutil.rmtree(root, ignore_errors=True)
            yield landed, course, root


def decides(landed: Landed) -> dict[str, Any]:
    """The settings that what is measured depends on."""
    return landed.context.settings.model_dump(mode="json", include=DECIDES)


def metrics_of(task: str) -> list[str]:
    """The columns of the tables: P1, and P2 with `new:`, or those of sessions."""
    if task == "next_item":
        return ["recall@20", "mrr@20", "recall@10", "mrr@10"]
    kinds = ("precision@10", "recall@10", "f1@10", "ndcg@10")
    return [*kinds, *(f"new:{kind}" for kind in kinds)]


def columns_of(rows: list[dict[str, Any]]) -> list[str]:
    """The metrics among the keys of rows, without their intervals."""
    return [name for name in rows[0] if "@" in name and "interval" not in name]
