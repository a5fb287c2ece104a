"""Run a Structured Streaming source to the end of what is there, each micro-batch landed once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_lib.adapters.folders import read_text, write_text
from recsys_lib.errors import AlluviumError, SettingsError, SourceError

Land = Callable[[DataFrame, str, int], int]


def record(
    payload: Column,
    origin: Column,
    *,
    partition: Column | None = None,
    offset: Column | None = None,
    typed: bool = True,
    problem: Column | None = None,
    detail: Column | None = None,
) -> list[Column]:
    """The columns of types.RAW_RECORD."""
    given = {
        "payload": (payload, "string"),
        "origin": (origin, "string"),
        "partition": (partition, "int"),
        "offset": (offset, "bigint"),
        "typed": (F.lit(typed), "boolean"),
        "problem": (problem, "string"),
        "detail": (detail, "string"),
    }
    return [
        (F.lit(None) if column is None else column).cast(kind).alias(name)
        for name, (column, kind) in given.items()
    ]


def text_record(text: Column, origin: Column, **more: Any) -> list[Column]:
    """A record that came as bytes: what is not UTF-8 is unreadable, and kept as far as it is."""
    strange = ~F.is_valid_utf8(text)
    return record(
        F.make_valid_utf8(text),
        origin,
        problem=F.when(strange, "unreadable"),
        detail=F.when(strange, "the bytes are not UTF-8"),
        **more,
    )


@dataclass(frozen=True)
class Feed:
    """One endless source.

    source   bronze's name for it
    name     tells its checkpoint from others of its kind
    stream   the streaming query's input: records, or where to find them
    records  what lies behind a micro-batch of the stream, as raw records (types.RAW_RECORD)
    careful  the same, after a failure: damaged parts are looked for, and left out with a word
    explain  what a failure of Spark means to the user; None where it means nothing known
    settings what tells it from another source of the same name: setting -> value, no secrets
    """

    source: str
    name: str
    stream: Callable[[], DataFrame]
    records: Callable[[DataFrame], DataFrame]
    careful: Callable[[DataFrame], DataFrame] | None = None
    explain: Callable[[str], str | None] = lambda _: None
    settings: Mapping[str, str] = field(default_factory=dict)


def run_feed(feed: Feed, checkpoints: str, land: Land) -> int:
    """Land everything that is there now; rows landed by this call.

    The checkpoint knows which micro-batch holds what, the table's log which of them are in it: a
    kill between the two writes no row twice. Raises SourceError, SettingsError where the checkpoint
    is another source's, and whatever `land` raises.
    """
    checkpoint = f"{checkpoints}/{feed.source}-{feed.name}"
    _claim(feed, f"{checkpoint}.source.json")
    landed: list[int] = []
    raised: list[AlluviumError] = []

    def write(batch: DataFrame, number: int) -> None:
        # The stream's id is in the name: a lost checkpoint counts its batches from 0 again.
        stream = batch.sparkSession.sparkContext.getLocalProperty("sql.streaming.queryId")
        app = f"land:{stream}"
        try:
            try:
                landed.append(land(feed.records(batch), app, number))
            except (PySparkException, Py4JJavaError):
                if feed.careful is None:
                    raise
                landed.append(land(feed.careful(batch), app, number))
        except AlluviumError as error:
            raised.append(error)
            raise

    try:
        query = (
            feed.stream()
            .writeStream.trigger(availableNow=True)
            .option("checkpointLocation", checkpoint)
            .foreachBatch(write)
            .start()
        )
        query.awaitTermination()
    except (PySparkException, Py4JJavaError) as error:
        if raised:
            raise raised[0] from None
        told = feed.explain(str(error))
        if told is None:
            raise
        raise SourceError(told) from error
    return sum(landed)


def secret(text: str) -> str:
    """A value that may be a key: enough to tell it from another one, and no more."""
    return f"digest {hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _claim(feed: Feed, file: str) -> None:
    """Note whose checkpoint it is, the first time. One that another source left would make this
    one's records pass for read. Raises SettingsError."""
    kept, mine = read_text(file), dict(feed.settings)
    if kept is None:
        write_text(file, json.dumps(mine, indent=1, sort_keys=True))
        return
    theirs: dict[str, str] = json.loads(kept)
    wrong = [
        f"{name} must be {theirs.get(name, 'not set')}, as when this lake began to land "
        f"{feed.name}, got {mine.get(name, 'nothing')}"
        for name in sorted({*theirs, *mine})
        if theirs.get(name) != mine.get(name)
    ]
    if wrong:
        last = f"{wrong[-1]}; give another source another --out; if it is the same one, "
        told = f"{last}only at another address, delete {file} and start this again"
        raise SettingsError(f"--source {feed.source}", [*wrong[:-1], told])
