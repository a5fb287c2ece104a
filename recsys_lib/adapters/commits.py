"""What single commits of a Delta table added, read from its log without the JVM."""

from __future__ import annotations

import json
from urllib.parse import unquote

from recsys_lib.adapters.folders import read_text
from recsys_lib.errors import LakeError
from recsys_lib.types import Increment


def appended_files(path: str, increment: Increment) -> tuple[list[str], bool]:
    """The data files that the versions of `increment` added, and whether they are partitioned.

    Commits that only rearrange rows (compaction) count as nothing. Raises LakeError where a
    version is no longer in the log, or changed rows instead of adding some.
    """
    files: list[str] = []
    partitioned = False
    for version in range(increment.from_version, increment.to_version):
        text = read_text(f"{path}/_delta_log/{version:020d}.json")
        if text is None:
            raise LakeError(
                f"version {version} of {increment.table} is no longer in its log; raise "
                "delta.logRetentionDuration, and read increments before they are cleaned up"
            )
        for line in text.splitlines():
            action = json.loads(line)
            change = action.get("add") or action.get("remove") or {}
            if not change.get("dataChange"):
                continue
            if "remove" in action:
                raise LakeError(
                    f"version {version} of {increment.table} changed rows; an increment needs a "
                    "table that is only appended to"
                )
            files = [*files, f"{path}/{unquote(change['path'])}"]
            partitioned = partitioned or bool(change.get("partitionValues"))
    return files, partitioned
