"""Raw records of any source -> JSON objects, opened once; what fields they have, of what kind.

Everything is done on Spark's variant: it refuses what is not JSON, sorts the keys of objects, and
tells a number from a text that looks like one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Observation
from pyspark.sql import functions as F
from pyspark.sql import types as T

UNREADABLE = "unreadable"
SPACE = " \t\r\n"  # of JSON (RFC 8259); there is no other
KINDS = {"STRING": "text", "BOOLEAN": "boolean", "VOID": "null"}


@dataclass(frozen=True)
class Survey:
    """What one micro-batch holds: rows, those that are objects, and {field: kind}.

    A kind is text, number, boolean, object or array; None where records disagree. `untyped` are the
    fields of records of a format in which all is text. `strange`: fields that some record has as
    anything but text or null; `numbers`: those of them that no record has as anything but these.
    """

    rows: int
    objects: int
    kinds: dict[str, str | None]
    untyped: frozenset[str] = frozenset()
    strange: frozenset[str] = frozenset()
    numbers: frozenset[str] = frozenset()

    @property
    def names(self) -> frozenset[str]:
        return self.untyped | self.kinds.keys()


def open_records(raw: DataFrame) -> DataFrame:
    """`raw` (see types.RAW_RECORD) with `record`, a variant that is null for what is no object."""
    payload = F.col("payload")
    opened = raw.withColumn("listed", F.when(F.col("problem").isNull(), _listed(payload)))
    return opened.withColumn("record", _first(F.col("listed"), payload)).drop("listed")


def record_of(payload: Column) -> Column:
    """The same, of a payload alone."""
    return _first(_listed(payload), payload)


def values(record: Column) -> Column:
    """Its fields: a map from name to variant."""
    return F.try_variant_get(record, "$", "map<string,variant>")


def surveyed(raw: DataFrame) -> tuple[DataFrame, Survey]:
    """`raw` with `whole`, whether it is an object, kept in memory or on disk for its next readers;
    and what it holds. One pass over the source, in which each record is opened once."""
    typed, record, told = F.coalesce("typed", F.lit(True)), F.col("record"), Observation()
    opened = open_records(raw).observe(
        told,
        F.count(F.lit(1)).alias("rows"),
        F.count("record").alias("objects"),
        F.schema_of_variant_agg(F.when(typed, record)).alias("typed"),
        F.schema_of_variant_agg(F.when(~typed, record)).alias("untyped"),
    )
    kept = opened.withColumn("whole", record.isNotNull()).drop("record").persist()
    try:
        kept.count()
        found = told.get
    except BaseException:
        kept.unpersist()
        raise
    kinds, untyped = kinds_of(found["typed"]), kinds_of(found["untyped"])
    pairs = {*kinds.items(), *untyped.items()}
    strange = frozenset(name for name, told in pairs if told != "text")
    numbers = strange - {name for name, told in pairs if told != "number"}
    names = frozenset(untyped)
    return kept, Survey(found["rows"], found["objects"], kinds, names, strange, numbers)


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


def canonical(record: Column) -> Column:
    """An object's content as one text: the same for all that say the same, in whatever order.

    Fields that are null are left out, and 1.50 is 1.5.
    """
    texts = F.try_variant_get(record, "$", "map<string,string>")
    return F.to_json(F.map_filter(texts, lambda _, value: value.isNotNull()))


def _listed(payload: Column) -> Column:
    # In brackets, because what stands after the first value would go unseen.
    return F.try_parse_json(F.concat(F.lit("["), payload, F.lit("]")))


def _first(listed: Column, payload: Column) -> Column:
    """The only element, where it is an object: of what is JSON the first sign tells that."""
    alone = F.try_variant_get(listed, "$[1]", "variant").isNull()
    an_object = F.ltrim(payload, F.lit(SPACE)).startswith("{")
    return F.when(alone & an_object, F.try_variant_get(listed, "$[0]", "variant"))


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
