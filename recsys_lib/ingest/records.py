"""Raw records of any source -> JSON objects, opened once; what fields they have, of what kind.

Everything is done on Spark's variant: it refuses what is not JSON, sorts the keys of objects, and
tells a number from a text that looks like one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

# problem: the rule that a source itself turned the record away by, null for a good one; detail:
# what was wrong, in words. partition and offset are Kafka's, null elsewhere.
RAW = (
    "payload string, origin string, `partition` int, `offset` bigint, problem string, detail string"
)
UNREADABLE = "unreadable"
KINDS = {"STRING": "text", "BOOLEAN": "boolean", "VOID": "null"}


@dataclass(frozen=True)
class Survey:
    """What one micro-batch holds: rows, those that are objects, and {field: kind}.

    A kind is text, number, boolean, object or array; None where records disagree.
    """

    rows: int
    objects: int
    kinds: dict[str, str | None]


def open_records(raw: DataFrame) -> DataFrame:
    """`raw` with `values` (field -> variant) and `texts` (field -> text), null for no object.

    Equal JSON values have equal texts, whatever the order of their keys.
    """
    # In brackets, because what stands after the first value would go unseen.
    listed = F.try_parse_json(F.concat(F.lit("["), F.col("payload"), F.lit("]")))
    opened = raw.withColumn("record", F.when(F.col("problem").isNull(), listed))
    alone = F.try_variant_get("record", "$[1]", "variant").isNull()
    values = F.try_variant_get("record", "$[0]", "map<string,variant>")
    texts = F.try_variant_get("record", "$[0]", "map<string,string>")
    whole = F.try_variant_get("record", "$[0]", "variant")
    return opened.withColumns(
        {
            "record": F.when(alone & values.isNotNull(), whole),
            "values": F.when(alone, values),
            "texts": F.when(alone, texts),
        }
    )


def survey(opened: DataFrame) -> Survey:
    """One pass over a micro-batch."""
    found = opened.agg(
        F.count(F.lit(1)).alias("rows"),
        F.count("record").alias("objects"),
        F.schema_of_variant_agg("record").alias("shape"),
    ).collect()[0]
    return Survey(found["rows"], found["objects"], kinds_of(found["shape"]))


def kinds_of(shape: str | None) -> dict[str, str | None]:
    """{field: kind} of what Spark says of a variant: OBJECT<a: BIGINT, `b c`: STRING>."""
    if shape is None or not shape.startswith("OBJECT<"):
        return {}
    parts = re.split(r"(`(?:[^`]|``)*`)", shape)
    ddl = "".join(p if p.startswith("`") else p.replace("OBJECT<", "STRUCT<") for p in parts)
    found = T.DataType.fromDDL(ddl)
    assert isinstance(found, T.StructType)
    kinds = {field.name: _kind(field.dataType) for field in found}
    return {name: kind for name, kind in kinds.items() if kind != "null"}


def kind(value: Column) -> Column:
    """Of one variant, as text; null for null."""
    shape = F.schema_of_variant(value)
    told = F.when(shape.startswith("OBJECT"), "object").when(shape.startswith("ARRAY"), "array")
    for name, meaning in KINDS.items():
        told = told.when(shape == name, F.lit(None) if meaning == "null" else F.lit(meaning))
    return told.when(shape.isNotNull(), "number")


def canonical(texts: Column) -> Column:
    """An object's content as one text: fields in order, empty ones left out."""
    return F.to_json(F.map_filter(texts, lambda _, value: value.isNotNull()))


def _kind(found: T.DataType) -> str | None:
    if isinstance(found, T.VariantType):
        return None
    if isinstance(found, T.StructType):
        return "object"
    if isinstance(found, T.ArrayType):
        return "array"
    if isinstance(found, T.StringType):
        return "text"
    if isinstance(found, T.BooleanType):
        return "boolean"
    return "null" if isinstance(found, T.NullType) else "number"
