"""Run a Structured Streaming source to the end of what is there, each micro-batch landed once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame

from recsys_lib.errors import AlluviumError, SourceError

Land = Callable[[DataFrame, str, int], int]


@dataclass(frozen=True)
class Feed:
    """One endless source.

    source   bronze's name for it
    name     tells its checkpoint from others of its kind
    stream   the streaming query's input: records, or where to find them
    records  what lies behind a micro-batch of the stream, as raw records (ingest.records.RAW)
    explain  what a failure of Spark means to the user; None where it means nothing known
    """

    source: str
    name: str
    stream: Callable[[], DataFrame]
    records: Callable[[DataFrame], DataFrame]
    explain: Callable[[str], str | None] = lambda _: None


def run_feed(feed: Feed, checkpoints: str, land: Land) -> int:
    """Land everything that is there now; rows landed by this call.

    The checkpoint knows which micro-batch holds what, the table's log which of them are in it: a
    kill between the two writes no row twice. Raises SourceError, and whatever `land` raises.
    """
    landed: list[int] = []
    raised: list[AlluviumError] = []

    def write(batch: DataFrame, number: int) -> None:
        # The stream's id is in the name: a lost checkpoint counts its batches from 0 again.
        stream = batch.sparkSession.sparkContext.getLocalProperty("sql.streaming.queryId")
        try:
            landed.append(land(feed.records(batch), f"land:{stream}", number))
        except AlluviumError as error:
            raised.append(error)
            raise

    try:
        query = (
            feed.stream()
            .writeStream.trigger(availableNow=True)
            .option("checkpointLocation", f"{checkpoints}/{feed.source}-{feed.name}")
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
