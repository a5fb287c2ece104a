"""Small file work on any file system that Spark can reach: local folders, hdfs://, s3://."""

from __future__ import annotations

import importlib.util
import os
import re
from functools import cache
from pathlib import Path

import fsspec
from fsspec import AbstractFileSystem

from recsys_lib.errors import SourceError


def is_remote(path: object) -> bool:
    """Whether a path is a URI, of another file system than this machine's own."""
    return "://" in str(path)


def absolute(path: str) -> str:
    """A path that Spark, delta-rs and Python read alike: URIs as they are, others absolute."""
    return path.rstrip("/") if is_remote(path) else os.path.abspath(path)


def literal(path: str) -> str:
    """For spark.read and spark.readStream, which take `a[12].csv` for a pattern."""
    return re.sub(r"([][{}*?\\])", r"\\\1", path)


def resolve(path: str) -> str:
    """`package:module/rest` is looked up inside an installed package. Raises SourceError."""
    if not path.startswith("package:"):
        return absolute(path)
    module, _, rest = path.removeprefix("package:").partition("/")
    spec = importlib.util.find_spec(module) if module.isidentifier() else None
    places = list(spec.submodule_search_locations or []) if spec else []
    if not places:
        raise SourceError(
            f"{path}: no installed package is named {module!r}; pip install it, or give a path"
        )
    return str(Path(places[0]) / rest)


def file_system(path: str) -> tuple[AbstractFileSystem, str]:
    """The file system of `path`, and `path` in that system's own words."""
    if path.startswith("hdfs://"):
        host, _, inner = path.removeprefix("hdfs://").partition("/")
        return _hdfs(host), f"/{inner}"
    fs, inner = fsspec.core.url_to_fs(path)
    return fs, inner


def move(source: str, target: str) -> None:
    """Rename within one file system; the target appears whole or not at all."""
    fs, inner = file_system(source)
    other = file_system(target)[1]
    fs.makedirs(other.rsplit("/", 1)[0], exist_ok=True)
    if not is_remote(source):
        os.replace(inner, other)
    else:
        fs.mv(inner, other, recursive=True)


def write_text(path: str, text: str) -> None:
    """Write beside, then rename, so that a reader never sees half a file."""
    fs, inner = file_system(path)
    fs.makedirs(inner.rsplit("/", 1)[0], exist_ok=True)
    with fs.open(f"{inner}.tmp", "w") as file:
        file.write(text)
    if not is_remote(path):
        os.replace(f"{inner}.tmp", inner)
    else:
        if fs.exists(inner):
            fs.rm(inner)
        fs.mv(f"{inner}.tmp", inner)


def read_text(path: str) -> str | None:
    """The file's text; None where there is no file."""
    fs, inner = file_system(path)
    if not fs.exists(inner):
        return None
    with fs.open(inner, "r") as file:
        return str(file.read())


@cache
def _hdfs(host: str) -> AbstractFileSystem:
    """hdfs:// without libhdfs; fsspec's own needs a native Hadoop.

    Kept here and not in fsspec's cache: a forked child clears that one, and so would wait for ever
    for this client's threads, which it does not have.
    """
    fsspec.register_implementation("hdfs", "hdfs_native.fsspec.HdfsFileSystem", clobber=True)
    return fsspec.core.url_to_fs(f"hdfs://{host}", skip_instance_cache=True)[0]
