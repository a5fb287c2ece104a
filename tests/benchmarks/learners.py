"""Chains of models: each learns the same windows by its own strategy, and its costs are kept."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.train import EVER, learn, learn_and_ship, lesson
from recsys_lib.settings import Settings, Strategy, load_settings
from tests.benchmarks.courses import DECIDES
from tests.benchmarks.shops import Landed

COSTS = ("examples", "steps", "seconds", "cpu_seconds")


@dataclass(frozen=True)
class Learner:
    """A strategy with its settings. A `full` retrain comes `every` so many windows."""

    name: str
    strategy: Strategy
    sets: tuple[str, ...] = ()
    every: int = 1


def learner(name: str, every: int = 1) -> Learner:
    """`rehearse`, or with settings: `finetune:model.dropout=0.3,train.optimizer=sgd`."""
    strategy, _, sets = name.partition(":")
    often = every if strategy == "full" else 1
    return Learner(name, strategy, tuple(filter(None, sets.split(","))), often)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Chain:
    """The models of one learner, one a window, in a folder; a lesson that is done is not redone."""

    landed: Landed
    learner: Learner
    first: int
    root: Path

    @property
    def settings(self) -> Settings:
        told = [f"train.strategy={self.learner.strategy}", *self.learner.sets]
        if self.learner.strategy == "full":
            told.append("prune.enabled=false")
        return load_settings("conf/local.yaml", [*_kept(self.landed), *told])

    def learned(self, window: int) -> int | None:
        """The last window known to the model that answers for `window`; None: it sits out."""
        last = window - 1
        if last <= self.first or self.learner.strategy == "frozen":
            return self.first
        if (last - self.first) % self.learner.every:
            return None
        return last

    def folder(self, learned: int) -> Path:
        base = self.root / (plain_name(self.learner.name) if learned > self.first else "first")
        return base / f"{learned:04d}"

    def learn(self, learned: int) -> dict[str, Any]:
        """The model that knows everything up to and with window `learned`; what it cost."""
        folder = self.folder(learned)
        costs = folder.with_suffix(".json")
        if costs.exists():
            return dict(json.loads(costs.read_text()))
        starts_anew = learned <= self.first or self.learner.strategy == "full"
        windows = (EVER, learned) if starts_anew else (learned, learned)
        parent = None if starts_anew else self.folder(learned - 1)
        if parent is not None and not self._has_rows(learned):
            shutil.copytree(parent, folder, dirs_exist_ok=True)
            return _noted(costs, dict.fromkeys(COSTS, 0.0))
        folder.parent.mkdir(parents=True, exist_ok=True)
        context, settings = self.landed.context, self.settings
        made = lesson(
            context,
            windows,
            self.landed.before(learned + 1),
            settings,
            parent=str(parent) if parent else None,
            folder=str(folder),
            lineage={"parent": None, "windows": list(windows)},
        )
        if settings.compress.shrink:
            _, found = learn_and_ship(context, made, settings.compress)
        else:
            found = learn(context, made)
        told = {name: found[name] for name in COSTS}
        # Of the first rank, and they do the same work.
        told["cpu_seconds"] *= found["ranks"]
        return _noted(costs, told)

    def _has_rows(self, window: int) -> bool:
        return window in self.landed.versions and self.landed.versions[window].get(
            "sequences"
        ) != self.landed.before(window).get("sequences")


def _kept(landed: Landed) -> list[str]:
    """The run's own settings, as far as models are concerned."""
    kept = landed.context.settings.model_dump(mode="json", include={"run", *DECIDES})
    return [
        f"{section}.{key}={json.dumps(value)}"
        for section, values in kept.items()
        for key, value in values.items()
    ]


def plain_name(name: str) -> str:
    """`name` as a file may be called."""
    return "".join(c if c.isalnum() or c in "+-." else "_" for c in name)


def _noted(path: Path, costs: dict[str, Any]) -> dict[str, Any]:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(costs))
    part.replace(path)
    return costs
