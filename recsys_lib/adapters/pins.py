"""Which rows must stay readable, and in which files they are: `pins/TABLE/FROM-TO/BY.json`.

A pin is one small file that names the data files of an increment. It outlives the commits that
wrote them: a cleaned log forgets, a pin does not. [0, n) is the table as it was at version n - 1.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from urllib.parse import quote

from recsys_lib.adapters.commits import DataFile
from recsys_lib.adapters.folders import file_system, read_text, write_text
from recsys_lib.types import Increment


class Pins:
    """The pins of one lake."""

    def __init__(self, root: str) -> None:
        self.root = f"{root}/pins"

    def write(self, increment: Increment, by: str, files: Sequence[DataFile]) -> None:
        """Pinning again what `by` has pinned changes nothing."""
        path = f"{self._folder(increment)}/{quote(by, safe='')}.json"
        if read_text(path) is None:
            kept = [{**asdict(file), "stats": {}} for file in files]
            write_text(path, json.dumps({"by": by, "files": kept}))

    def files(self, increment: Increment) -> list[DataFile] | None:
        """The files that hold the rows of a pinned increment; None where nobody pins it."""
        found = next(self._manifests(self._folder(increment)), None)
        return None if found is None else _files(found)

    def remove(self, by: str, increment: Increment | None = None, table: str = "") -> None:
        """Give up the pin of `increment`, or all that `by` has on `table` (on any)."""
        folder = f"{self.root}/{table}" if increment is None else self._folder(increment)
        for path in self._found(folder):
            if path.endswith(f"/{quote(by, safe='')}.json"):
                file_system(self.root)[0].rm(path)

    def held(self, table: str) -> set[str]:
        """Every file of `table` that some pin names, relative to the table."""
        found = self._manifests(f"{self.root}/{table}")
        return {file.path for manifest in found for file in _files(manifest)}

    def by(self) -> set[str]:
        """Everybody who pins anything."""
        return {json.loads(text)["by"] for text in self._manifests(self.root)}

    def _manifests(self, folder: str) -> Iterator[str]:
        fs, _ = file_system(self.root)
        for path in self._found(folder):
            text = read_text(fs.unstrip_protocol(path) if "://" in self.root else path)
            if text is not None:
                yield text

    def _found(self, folder: str) -> list[str]:
        """Listed, not matched: the lake may lie in a folder that looks like a pattern."""
        fs, inner = file_system(folder.rstrip("/"))
        return sorted(path for path in fs.find(inner) if path.endswith(".json"))

    def _folder(self, increment: Increment) -> str:
        return f"{self.root}/{_place(increment)}"


def _place(increment: Increment) -> str:
    return f"{increment.table}/{increment.from_version}-{increment.to_version}"


def _files(manifest: str) -> list[DataFile]:
    return [DataFile(**entry) for entry in json.loads(manifest)["files"]]
