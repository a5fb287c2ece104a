"""Native code writes to file descriptor 2 before any log level can be set; whoever starts an
executor or a rank would read it in every task."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LOCK = threading.Lock()
_KEPT: list[int] = []
"""The terminal, once for each thread that is in here: the first one keeps it, for all of them."""


@contextmanager
def silent() -> Iterator[None]:
    """Nothing that is said in here reaches the terminal, whichever thread says it."""
    with _LOCK:
        _KEPT.append(_KEPT[0] if _KEPT else _redirected())
    try:
        yield
    finally:
        with _LOCK:
            kept = _KEPT.pop()
            if not _KEPT:
                os.dup2(kept, 2)
                os.close(kept)


def _redirected() -> int:
    """Sends what comes to nowhere; the terminal under another number."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    return kept
