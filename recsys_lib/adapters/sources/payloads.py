"""Raw records once more, from the payloads that bronze and quarantine keep."""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_lib.adapters.sources.files import TORN, json_fields, json_object
from recsys_lib.expressions import CORRUPT, PAYLOAD


def read_payloads(spark: SparkSession, payloads: DataFrame, seen: DataFrame) -> DataFrame:
    """The raw columns of each of `payloads` as text, as a JSON log has them; and the payload.

    A null is not written into a payload, so which columns the log has is found in all that was
    `seen`. What is no JSON object has its text in `_corrupt_record`, like a line of a log.
    """
    fields = json_fields(spark, seen.select("payload").where("payload IS NOT NULL"))
    found = payloads.select("payload", json_object("payload", fields).alias("raw"))
    torn = F.when(F.col("raw").isNull(), F.col("payload")).alias(CORRUPT)
    return found.select(F.col("payload").alias(PAYLOAD), "raw.*", torn).drop(TORN)
