"""Raw records once more, from the payloads that bronze and quarantine keep."""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from recsys_lib.expressions import CORRUPT, PAYLOAD


def read_payloads(spark: SparkSession, payloads: DataFrame, seen: DataFrame) -> DataFrame:
    """The raw columns of each of `payloads` as text, as a JSON log has them; and the payload.

    A null is not written into a payload, so which columns the log has is found in all that was
    `seen`. What is no JSON object has its text in `_corrupt_record`, like a line of a log.
    """
    reader = spark.read.option("primitivesAsString", True).option("mode", "PERMISSIVE")
    reader = reader.option("columnNameOfCorruptRecord", CORRUPT)
    found = reader.json(seen.select("payload").where("payload IS NOT NULL")).schema
    fields = [field for field in found.fields if field.name != CORRUPT]
    whole = T.StructType([*fields, T.StructField(CORRUPT, T.StringType())])
    options = {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": CORRUPT}
    raw = F.from_json("payload", whole, options).alias("raw")
    return payloads.select(F.col("payload").alias(PAYLOAD), raw).select(PAYLOAD, "raw.*")
