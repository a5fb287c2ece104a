"""Land what lies in the inbox, exactly once, with Structured Streaming."""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession

from recsys_lib.adapters.folders import absolute, file_system, literal
from recsys_lib.adapters.lake import Lake
from recsys_lib.adapters.sources.files import readable
from recsys_lib.expressions import arrival
from recsys_lib.settings import IngestSettings

FOREVER = "36500d"


def land(
    spark: SparkSession, lake: Lake, inbox: str, schema: str, settings: IngestSettings
) -> None:
    """Append every file that came since the last call to bronze.

    The checkpoint knows which files were read, the transaction in the table's log which batches
    were written: a kill between the two writes no row twice.
    """
    fs, inner = file_system(absolute(inbox))
    fs.makedirs(inner, exist_ok=True)

    def write(batch: DataFrame, number: int) -> None:
        # The stream's id is in the name: a lost checkpoint counts its batches from 0 again.
        stream = batch.sparkSession.sparkContext.getLocalProperty("sql.streaming.queryId")
        stamped = batch.withColumns(arrival(number))
        lake.append_once("bronze", stamped, app=f"land:{stream}", version=number)

    stream = (
        spark.readStream.schema(schema)
        .option("maxFilesPerTrigger", settings.max_files_per_batch)
        # By default files a week older than the newest are taken for read.
        .option("maxFileAge", FOREVER)
        .parquet(literal(absolute(inbox)))
        .writeStream.trigger(availableNow=True)
        .option("checkpointLocation", f"{lake.root}/_checkpoints/bronze")
        .foreachBatch(write)
    )
    with readable(inbox):
        stream.start().awaitTermination()
