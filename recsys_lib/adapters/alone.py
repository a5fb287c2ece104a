"""One job at a time may change a lake from this machine: none judges rows by what another adds."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recsys_lib.errors import LakeError

PAUSE = 0.2


@contextmanager
def alone(root: str, job: str, wait_seconds: float) -> Iterator[None]:
    """Hold the lake at `root`, once whoever has it lets go. Raises LakeError where that takes more
    than `wait_seconds`.

    The kernel takes the lock from a process that dies, however it dies: nothing is left to clear
    away. Jobs of other machines are not seen; what they commit first makes ours fail, unharmed.
    """
    fd = os.open(_file(root), os.O_CREAT | os.O_RDWR, 0o644)
    try:
        _take(fd, root, job, wait_seconds)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{job} (process {os.getpid()})".encode(), 0)
        yield
    finally:
        os.close(fd)


def _take(fd: int, root: str, job: str, wait_seconds: float) -> None:
    end = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                holder = os.pread(fd, 200, 0).decode(errors="replace") or "another job"
                raise LakeError(
                    f"{job} must have {root} for itself, but {holder} changes it just now and did "
                    f"not end within {wait_seconds:.0f} s; wait for it or stop it, then start this "
                    "again (lake.wait_seconds says how long to wait)"
                ) from None
            time.sleep(PAUSE)
        else:
            return


def _file(root: str) -> Path:
    """In the lake where that is a folder; for another file system one name for all of us here."""
    if "://" not in root:
        Path(root).mkdir(parents=True, exist_ok=True)
        return Path(root) / "_writer.lock"
    name = hashlib.md5(root.encode()).hexdigest()
    return Path(tempfile.gettempdir()) / f"alluvium-{name}.lock"
