"""Which state of a file was merged last: a file that changes back has changed again."""

from __future__ import annotations

import zlib

from recsys_lib.tables import Lake

STATES = 2**32
"""A merge's number: how many came before it, times this, and the checksum of the file's state."""


def merge_number(lake: Lake, app: str, state: str, *tables: str) -> int:
    """Of the merge of `state` into `tables`: the last one's where that was of this state too, so
    that it is ended or left, else the next one's."""
    numbers = (lake.last(table, app) for table in tables)
    last = max((number for number in numbers if number is not None), default=None)
    checksum = zlib.crc32(state.encode())
    if last is None:
        return checksum
    merges, before = divmod(last, STATES)
    return last if before == checksum else (merges + 1) * STATES + checksum
