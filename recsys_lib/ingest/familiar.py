"""Records that say nothing new: known without a look at all of their micro-batch first.

Most records of a source are flat objects with the fields that others had before, in the same order.
One regular expression knows these, in half the time that it takes to open a variant; the others
are opened one by one. Whoever holds anything that was not there before stops the batch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from itertools import chain

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_lib.ingest.fields import ANY, Field
from recsys_lib.ingest.records import kind, record_of, values

NEWS = "a record holds what none before it held"
FAILURES = (PySparkException, Py4JJavaError)
SAMPLE, SHORT = 100, 10_000  # records whose order of fields is looked at, and their length
MOST_FIELDS = 64  # each costs a look at every record, whether it has the field or not
SPACE = "[ \\t\\r\\n]*+"
TEXT = r'"[^"\\\x00-\x1f]*+"'
VALUES = {
    "text": TEXT,
    ANY: TEXT,
    "number": r"-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,15})?",
    "boolean": "true|false",
}
NAME = re.compile(r'[^"\\\x00-\x1f]*')


def in_order(raw: DataFrame, mine: Collection[Field]) -> list[Field] | None:
    """`mine` as some records of `raw` have them, those that they lack last; None where the records
    are not alike, so that a survey is quicker."""
    short = raw.where("problem IS NULL").where(F.length("payload") < SHORT)
    some = [row["payload"] for row in short.select("payload").limit(SAMPLE).collect()]
    longest = sorted(map(_names, some), key=len, reverse=True)
    met = {name: place for place, name in enumerate(dict.fromkeys(chain.from_iterable(longest)))}
    ordered = sorted(mine, key=lambda field: met.get(field.name, len(met)))
    known = re.compile(shape(ordered))
    alike = sum(known.search(payload) is not None for payload in some)
    return ordered if 2 * alike >= len(some) else None


def opened(raw: DataFrame, mine: Sequence[Field]) -> DataFrame:
    """`raw` (see types.RAW_RECORD) with `whole`, as `records.surveyed` gives it.

    `mine` are the known fields of the source, best in the order in which records have them.
    Reading the rows fails with NEWS if one has a field that is not among them, or of another kind:
    then a survey has to say what that means.
    """
    sound = F.col("problem").isNull()
    plain = F.coalesce(sound & F.col("payload").rlike(shape(mine)), F.lit(False))
    rows = raw.withColumn("plain", plain)
    odd = F.when(sound & ~F.col("plain"), record_of(F.col("payload")))
    rows = rows.withColumn("odd", odd)
    news = F.raise_error(F.lit(NEWS)).cast("boolean")
    whole = F.when(F.col("plain"), True).otherwise(
        F.when(_new(F.col("odd"), mine), news).otherwise(F.col("odd").isNotNull())
    )
    return rows.withColumn("whole", whole).drop("plain", "odd")


def strange(mine: Collection[Field]) -> frozenset[str]:
    """Fields that may hold anything but text."""
    return frozenset(field.name for field in mine if field.kind not in ("text", ANY))


def fits(mine: Collection[Field]) -> bool:
    """Whether it is worth a try."""
    return 0 < len(mine) <= MOST_FIELDS


def shape(mine: Sequence[Field]) -> str:
    """Matches flat objects of these fields, each at most once and in this order; any may be missing
    or null. What matches means the same to every reader of JSON."""
    comma = rf"(?:(?<=\{{){SPACE}|(?<!\{{){SPACE},{SPACE})"
    fields = [
        f'(?:{comma}"{re.escape(f.name)}"{SPACE}:{SPACE}(?:{VALUES[f.kind]}|null))?'
        for f in mine
        if f.kind in VALUES and NAME.fullmatch(f.name)
    ]
    return rf"\A{SPACE}\{{{''.join(fields)}{SPACE}\}}{SPACE}(?![\s\S])"


def _names(payload: str) -> list[str]:
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError):
        return []
    return list(found) if isinstance(found, dict) else []


def _new(record: Column, mine: Collection[Field]) -> Column:
    """Whether an object has a field that none of `mine` is, or one of another kind."""
    told = [F.lit(text) for field in mine for text in (field.name, field.kind)]
    kinds = F.create_map(*told)
    return F.exists(
        F.map_entries(values(record)),
        lambda it: (
            kind(it["value"]).isNotNull()
            & ~kind(it["value"]).eqNullSafe(F.element_at(kinds, it["key"]))
        ),
    )
