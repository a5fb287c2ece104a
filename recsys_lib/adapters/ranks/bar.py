"""The first rank's steps as a progress bar."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm


class ProgressBar:
    """Shown where there is a label; goes back when ranks are launched again."""

    def __init__(self, label: str | None) -> None:
        often = 0.5 if sys.stderr.isatty() else 30.0
        self._bar = tqdm(
            desc=label, unit="step", leave=False, mininterval=often, disable=label is None
        )

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, state: dict[str, Any]) -> None:
        """`state`: step, steps, and the loss where it is known."""
        self._bar.total = state["steps"]
        self._bar.update(state["step"] - self._bar.n)
        if "loss" in state:
            self._bar.set_postfix(loss=f"{state['loss']:.3f}", refresh=False)
