"""Run folders and model folders on any file system: pathlib's words for hdfs:// too, and copies
of whole folders between there and the local disk, on which models are read and written."""

from __future__ import annotations

import hashlib
import os
import posixpath
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

from recsys_lib.adapters.folders import absolute, file_system, is_remote
from recsys_lib.types import Place

PAUSES = (1.0, 4.0)
"""Seconds before a write that has failed is tried again."""

KEPT_DAYS = 7
"""A copy that nobody has asked for so long is deleted."""


@dataclass(frozen=True, order=True)
class RemotePlace:
    """As much of pathlib.Path as run folders need, for a URI."""

    uri: str

    def __str__(self) -> str:
        return self.uri

    def __truediv__(self, name: str) -> RemotePlace:
        return RemotePlace(f"{self.uri}/{name}")

    @property
    def name(self) -> str:
        return posixpath.basename(self.uri)

    def with_suffix(self, suffix: str) -> RemotePlace:
        return RemotePlace(posixpath.splitext(self.uri)[0] + suffix)

    def exists(self) -> bool:
        fs, inner = file_system(self.uri)
        return bool(fs.exists(inner))

    def mkdir(self, *, parents: bool = False, exist_ok: bool = False) -> None:  # noqa: ARG002
        """Parents are made too, and one that is there is left, whatever is asked."""
        fs, inner = file_system(self.uri)
        fs.makedirs(inner, exist_ok=True)

    def read_text(self, encoding: str | None = None) -> str:
        fs, inner = file_system(self.uri)
        with fs.open(inner, "rb") as file:
            return bytes(file.read()).decode(encoding or "utf-8")

    def write_text(self, data: str, encoding: str | None = None) -> int:
        fs, inner = file_system(self.uri)
        _again(partial(fs.pipe_file, inner, data.encode(encoding or "utf-8")))
        return len(data)

    def replace(self, target: RemotePlace) -> RemotePlace:
        """Rename at once over what was there."""
        _renamed(self.uri, target.uri)
        return target

    def glob(self, pattern: str) -> Iterator[RemotePlace]:
        fs, inner = file_system(self.uri)
        if fs.exists(inner):
            names = (file.rstrip("/").rsplit("/", 1)[-1] for file in fs.ls(inner, detail=False))
            yield from (self / name for name in names if fnmatch(name, pattern))


def place(path: str) -> Place:
    """The folder or file of a path or a URI."""
    return RemotePlace(path.rstrip("/")) if is_remote(path) else Path(path).resolve()


def fetch(uri: str) -> str:
    """A local folder with the files of `uri` as they are now: the folder itself where it is local,
    else a copy, made once by each machine."""
    if not is_remote(uri):
        return uri
    fs, inner = file_system(uri)
    found = fs.find(inner, detail=True)
    facts = [
        (name, info["size"], str(info.get("modification_time"))) for name, info in found.items()
    ]

    def fill(part: Path) -> None:
        part.mkdir()
        for file in found:
            local = part / posixpath.relpath(file, inner)
            local.parent.mkdir(parents=True, exist_ok=True)
            fs.get_file(file, str(local))

    return cached(repr((uri, sorted(facts))), fill)


def cached(key: str, fill: Callable[[Path], None]) -> str:
    """The folder that `fill` makes of `key`, once on this machine, whole or not at all. One that
    nobody asked for in `KEPT_DAYS` goes when another one is made."""
    target = _cache() / hashlib.md5(key.encode()).hexdigest()
    with suppress(FileNotFoundError):
        os.utime(target)
    if not target.exists():
        _evict(target.parent)
        part = _beside(target)
        try:
            fill(part)
            with suppress(OSError):  # another process was faster
                part.rename(target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return str(target)


@contextmanager
def delivery(uri: str) -> Iterator[str]:
    """A local folder to write into; when all went well it is at `uri`, in place of an older one:
    whole or not at all. Where nothing was written, nothing changes."""
    if not is_remote(uri):
        yield uri
        return
    with tempfile.TemporaryDirectory(prefix="alluvium-") as folder:
        yield f"{folder}/it"
        if Path(f"{folder}/it").exists():
            deliver(f"{folder}/it", uri)


def deliver(folder: str, uri: str) -> None:
    """Copy a local folder to `uri`; it appears there whole, in place of an older one."""
    fs, inner = file_system(uri)
    part = f"{inner}.{uuid.uuid4().hex}.part"
    for file in sorted(Path(folder).rglob("*")):
        if file.is_file():
            there = f"{part}/{file.relative_to(folder).as_posix()}"
            fs.makedirs(posixpath.dirname(there), exist_ok=True)
            _again(partial(fs.put_file, str(file), there))
    if fs.exists(inner):
        fs.rm(inner, recursive=True)
    fs.mv(part, inner, recursive=True)


@contextmanager
def appended(log: Place) -> Iterator[str]:
    """A local file to append to; `log` has all of it in the end, however that comes."""
    if isinstance(log, Path):
        yield str(log)
        return
    with tempfile.TemporaryDirectory(prefix="alluvium-") as folder:
        local = Path(folder) / log.name
        local.write_text(log.read_text() if log.exists() else "")
        try:
            yield str(local)
        finally:
            log.write_text(local.read_text())


@dataclass(frozen=True)
class KeptFile:
    """One file that outlives a process, at a path or URI: a lesson's checkpoint."""

    uri: str

    def put(self, file: Path) -> None:
        """In place of what was there, whole or not at all."""
        fs, inner = file_system(self.uri)
        fs.makedirs(posixpath.dirname(inner), exist_ok=True)
        _again(partial(fs.put_file, str(file), f"{inner}.part"))
        _renamed(f"{self.uri}.part", self.uri)

    def get(self, folder: Path) -> Path | None:
        fs, inner = file_system(self.uri)
        if not fs.exists(inner):
            return None
        fs.get_file(inner, str(folder / "kept"))
        return folder / "kept"

    def drop(self) -> None:
        fs, inner = file_system(self.uri)
        with suppress(FileNotFoundError):
            fs.rm_file(inner)


def _again(write: Callable[[], object]) -> None:
    """A file that is being written when a DataNode goes is lost; written anew, it finds those that
    are left."""
    for pause in PAUSES:
        try:
            write()
        except (OSError, RuntimeError):  # hdfs-native says what failed in a RuntimeError
            time.sleep(pause)
        else:
            return
    write()


def _renamed(source: str, target: str) -> None:
    if not is_remote(source):
        os.replace(absolute(source), absolute(target))
        return
    fs, inner = file_system(source)
    fs.mv(inner, file_system(target)[1], overwrite=True)


def _evict(cache: Path) -> None:
    """What a kill left of a copy goes too. Renamed first: nobody sees half of a folder."""
    oldest = time.time() - KEPT_DAYS * 86_400
    for entry in cache.iterdir():
        with suppress(OSError):  # another process was faster
            if entry.stat().st_mtime < oldest:
                shutil.rmtree(entry.rename(_beside(entry)))


def _beside(entry: Path) -> Path:
    return entry.with_name(f"{entry.name[:32]}.{uuid.uuid4().hex}")


def _cache() -> Path:
    """Of this user, on this machine: models that were fetched. YARN clears its own away."""
    root = os.environ.get("LOCAL_DIRS", "").split(",")[0] or tempfile.gettempdir()
    folder = Path(root) / f"alluvium-models-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
