"""How heavy packages are used: without what they say, what they do not need, what they leave.

Native code writes to file descriptor 2 before any log level can be set; whoever starts an
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
def without(module: str) -> Iterator[None]:
    """What is imported in here, and could do without `module`, does not find it."""
    if module in sys.modules:
        yield
        return
    # None there is how Python is told that there is no such module (importlib, "import system").
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]


@contextmanager
def uncompiled() -> Iterator[None]:
    """Python keeps nothing that it compiles in here.

    autograph writes what TensorFlow traces to the temporary folder as modules, and takes away
    the modules at the end, but not what Python compiled of them."""
    before = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


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
