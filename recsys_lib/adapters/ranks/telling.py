"""What a rank says of how it goes on, for whoever launched it to hear."""

from __future__ import annotations

import json
import os
import time
from typing import Any

TELLS = "ALLUVIUM_RANK_TELLS"
"""Environment variable: number of the pipe that leads to the rank's task."""

SOONEST = 0.2
_last = 0.0


def tell(step: int, steps: int, loss: float | None = None) -> None:
    """A step is done. From the first one on, silence means that the rank hangs."""
    global _last
    now = time.monotonic()
    if now - _last < SOONEST and loss is None and step < steps:
        return
    _last = now
    send({"step": step, "steps": steps, **({} if loss is None else {"loss": loss})})


def patient() -> None:
    """What follows has no steps (saving, exporting): silence means nothing for a while."""
    send({"patient": True})


def send(message: dict[str, Any]) -> None:
    """Nowhere, where the work was not launched as a rank."""
    if TELLS in os.environ:
        os.write(int(os.environ[TELLS]), json.dumps(message).encode() + b"\n")
