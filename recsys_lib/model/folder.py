"""Model folders: written whole or not at all, and checked file by file when they are read."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recsys_lib.errors import ModelError


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A folder to write into; it becomes `target`, in place of an older one, when all went well."""
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    yield part
    if target.exists():
        shutil.rmtree(target)
    os.replace(part, target)


def read_manifest(path: Path, version: int, what: str, advice: str) -> dict[str, Any]:
    """The JSON that describes the folder of `path`. Raises ModelError: `what` it must be, and
    `advice` on what to name instead."""
    root = path.parent
    try:
        text = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{root} must be a {what} with a readable {path.name} ({error}); {advice}"
        ) from None
    if text.get("format") != version:
        raise ModelError(
            f"{root}: format must be {version}, got {text.get('format')}; "
            "use the release that wrote it, or learn a first model anew in another run folder"
        )
    return dict(text)


def check_files(root: Path, digests: Mapping[str, str]) -> None:
    """Raises ModelError where a file is missing or is not what was written."""
    for name, digest in digests.items():
        if not (root / name).is_file():
            raise ModelError(f"{root} must hold {name}; it is missing: fetch the model again")
        if digest_of(root / name) != digest:
            raise ModelError(f"{root / name} is damaged (its hash differs); fetch it again")


def folder_bytes(folder: Path) -> int:
    """Of all files in it, at any depth."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
