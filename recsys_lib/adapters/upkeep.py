"""Keep tables in few files of a good size, and remove what nobody can need any more."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Collection

from delta.exceptions import (
    ConcurrentAppendException,
    ConcurrentDeleteDeleteException,
    ConcurrentDeleteReadException,
    ConcurrentTransactionException,
    ConcurrentWriteException,
    DeltaConcurrentModificationException,
    MetadataChangedException,
    ProtocolChangedException,
)
from delta.tables import DeltaTable as SparkTable
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from recsys_lib.adapters.commits import DataFile
from recsys_lib.adapters.folders import file_system

MIB = 1 << 20
# Another writer was faster. In Python the first is no base of the others.
CONFLICTS = (
    DeltaConcurrentModificationException,
    ConcurrentAppendException,
    ConcurrentDeleteDeleteException,
    ConcurrentDeleteReadException,
    ConcurrentTransactionException,
    ConcurrentWriteException,
    MetadataChangedException,
    ProtocolChangedException,
)


def small_files(files: Collection[DataFile], file_bytes: int) -> int:
    """Files under half of `file_bytes` that lie beside another such file in their partition."""
    small = [tuple(sorted(f.partition.items())) for f in files if f.size < file_bytes // 2]
    counted = Counter(small)
    return sum(count for count in counted.values() if count > 1)


def compact(spark: SparkSession, path: str, file_bytes: int) -> bool:
    """Rewrite small files into some of about `file_bytes`; rows and their order of landing stay.

    The commit says that no data changed, so that readers of increments pass over it. False where
    another writer was faster: then the next call will do it.
    """
    limits = ("optimize.minFileSize", "optimize.maxFileSize")
    for name in limits:
        spark.conf.set(f"spark.databricks.delta.{name}", str(file_bytes))
    try:
        SparkTable.forPath(spark, path).optimize().executeCompaction()
    except CONFLICTS:
        return False
    finally:
        for name in limits:
            spark.conf.unset(f"spark.databricks.delta.{name}")
    return True


def vacuum(path: str, hours: int, held: Collection[str]) -> int:
    """Delete data files that no version of the last `hours` needs and that are not `held`; how
    many. A kill leaves some for the next call."""
    table = DeltaTable(path)
    # Only asked for, never done: delta-rs knows no pins.
    old = table.vacuum(
        retention_hours=hours, dry_run=True, enforce_retention_duration=False, full=True
    )
    free = {name for name in old if _is_data(name) and name not in held}
    fs, inner = file_system(path)
    # The log lists what an earlier call has deleted too.
    doomed = [n for n in old if _data_of(n) in free and fs.exists(f"{inner}/{n}")]
    for name in doomed:
        fs.rm_file(f"{inner}/{name}")
    return len(free & set(doomed))


def trim_log(path: str, hours: int, unread: int | None) -> int:
    """Delete commits from the log that a checkpoint sums up, if they are older than `hours` and
    before version `unread`, from which a reader goes on; how many files.

    Delta's own clean-up knows no readers, so it is off (see `lake`).
    """
    fs, inner = file_system(path)
    names = [file.rpartition("/")[2] for file in fs.ls(f"{inner}/_delta_log", detail=False)]
    found = {name: int(told[1]) for name in names if (told := _OF_VERSION.match(name))}
    since = time.time() - 3600 * hours
    commits = {found[name]: name for name in found if name.endswith(".json") and name[0] != "."}
    young = (
        version
        for version, name in sorted(commits.items())
        if fs.modified(f"{inner}/_delta_log/{name}").timestamp() >= since
    )
    last = max(commits)
    first = min(next(young, last), last if unread is None else unread)
    sums = [found[name] for name in found if ".checkpoint." in name and found[name] <= first]
    doomed = [name for name in found if found[name] < max(sums, default=0)]
    for name in sorted(doomed):
        fs.rm_file(f"{inner}/_delta_log/{name}")
    return len(doomed)


_OF_VERSION = re.compile(r"\.?(\d{20})\.")


def _is_data(name: str) -> bool:
    hidden = any(part.startswith(("_", ".")) for part in name.split("/"))
    return name.endswith(".parquet") and not hidden


def _data_of(name: str) -> str:
    """The data file that `name` is, or is the checksum of (Hadoop's local files have one)."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.removeprefix(".").removesuffix(".crc")
