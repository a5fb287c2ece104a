"""A folder that a file stream watches, written line by line: durable, and never half a file.

Lines go to a hidden part file, `.events-….jsonl.part`, and many writers share one fsync. A part
that is old or large enough is renamed to `events-….jsonl`. Its writer holds a lock on it, so
several processes may share a folder; a part without a lock is what a killed one left.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import mmap
import os
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

log = logging.getLogger("alluvium.collector")
Waiting = tuple[bytes, asyncio.Future[None]]


class LandingFolder:
    """`keep` returns when its lines are on disk. One event loop; one thread writes."""

    def __init__(
        self,
        folder: Path,
        name: str,
        rotate_bytes: int,
        rotate_seconds: float,
        count: Callable[..., None],
    ) -> None:
        self.folder, self.name = folder, name
        self.rotate_bytes, self.rotate_seconds = rotate_bytes, rotate_seconds
        self._count = count
        self._part: Part | None = None
        self._waiting: list[Waiting] = []
        self._wake = asyncio.Event()
        self._closing = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"landing-{name}")
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Finish what a killed process left, then take lines."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for file, dropped in finish_parts(self.folder):
            log.warning("finished %s of a stopped process, %s bytes torn off", file, dropped)
        self._task = asyncio.create_task(self._commit_for_ever())

    async def keep(self, lines: Sequence[bytes]) -> None:
        """Raises OSError where the lines may not be on disk."""
        if self._closing:
            raise OSError("the collector is stopping")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((b"\n".join([*lines, b""]), future))
        self._wake.set()
        await future

    async def close(self) -> None:
        """Write what waits and hand over the last file."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await self._task
        self._thread.shutdown()

    async def _commit_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        while not (self._closing and not self._waiting and self._part is None):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._until_rotation())
            self._wake.clear()
            batch, self._waiting = self._waiting, []
            try:
                await loop.run_in_executor(self._thread, self._commit, [d for d, _ in batch])
                error: Exception | None = None
            except Exception as raised:  # whatever it was: nobody may wait for ever
                error = raised
                self._count("commit_failures_total", stream=self.name)
            for _, future in batch:
                if not future.done():
                    future.set_result(None) if error is None else future.set_exception(
                        OSError(str(error))
                    )

    def _until_rotation(self) -> float | None:
        if self._closing:
            return 0
        if self._part is None:
            return None
        return max(0.0, self._part.opened + self.rotate_seconds - time.monotonic())

    def _commit(self, data: list[bytes]) -> None:
        """In the writer's thread. Of a write that fails nothing stays in the file."""
        started = time.monotonic()
        if data:
            if self._part is None:
                self._part = Part.create(self.folder, self.name)
            try:
                self._part.write(b"".join(data))
            except OSError:
                self._seal()
                raise
            self._count("commits_total", stream=self.name)
            self._count("commit_seconds_total", time.monotonic() - started, stream=self.name)
        part = self._part
        full = part is not None and part.size >= self.rotate_bytes
        if self._closing or full or self._until_rotation() == 0:
            self._seal()

    def _seal(self) -> None:
        part, self._part = self._part, None
        if part is None:
            return
        try:
            if part.seal():
                self._count("files_finished_total", stream=self.name)
        except OSError as error:  # the next start finishes it
            log.error("%s could not be finished: %s", part.path, error)


class Part:
    """A part file under our lock; `size` counts bytes that are durable."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path, self.fd, self.size = path, fd, 0
        self.opened = time.monotonic()

    @staticmethod
    def create(folder: Path, name: str) -> Part:
        while True:
            stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:12]}"
            path = folder / f".{name}-{stamp}.jsonl.part"
            fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND, 0o644)
            # Another process that starts just now may have taken it for an abandoned one.
            if _locked(path, fd):
                _sync_folder(folder)
                return Part(path, fd)
            os.close(fd)

    def write(self, data: bytes) -> None:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self.fd, view) :]
            os.fdatasync(self.fd)
        except OSError:
            # What was not acknowledged is sent again: better not to have it twice.
            with suppress(OSError):
                os.ftruncate(self.fd, self.size)
            raise
        self.size += len(data)

    def seal(self) -> bool:
        """Give the file its name, or remove it where it is empty; either way let it go."""
        try:
            if os.fstat(self.fd).st_size == 0:
                self.path.unlink()
                return False
            self.path.rename(finished(self.path))
            _sync_folder(self.path.parent)
            return True
        finally:
            os.close(self.fd)


def finished(part: Path) -> Path:
    return part.with_name(part.name.removeprefix(".").removesuffix(".part"))


def finish_parts(folder: Path) -> list[tuple[str, int]]:
    """Finish the part files that no process holds: (name, bytes of a torn last line).

    Whoever was acknowledged has a whole line, so a line without its end was not.
    """
    done: list[tuple[str, int]] = []
    for path in sorted(folder.glob(".*.jsonl.part")):
        try:
            fd = os.open(path, os.O_RDWR | os.O_APPEND)
        except FileNotFoundError:
            continue  # its writer was faster
        if not _locked(path, fd):
            os.close(fd)
            continue
        dropped = _cut_torn_line(fd)
        if Part(path, fd).seal():
            done = [*done, (finished(path).name, dropped)]
    return done


def _cut_torn_line(fd: int) -> int:
    size = os.fstat(fd).st_size
    if not size:
        return 0
    with mmap.mmap(fd, size, access=mmap.ACCESS_READ) as content:
        whole = content.rfind(b"\n") + 1
    os.ftruncate(fd, whole)
    os.fsync(fd)
    return size - whole


def _locked(path: Path, fd: int) -> bool:
    """Whether we hold the lock now, and the file still bears this name."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(fd), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
