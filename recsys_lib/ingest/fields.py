"""The fields that records of a source have had so far. They only grow; a kind never changes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_lib.ingest.records import Survey, kind, values
from recsys_lib.tables import Lake

TABLE = "fields"
SCHEMA = "source string, name string, kind string, place int"
COLUMN_NAME = re.compile(r"[^\W\d]\w{0,127}")
ANY = "any"
TYPES = {"number": "double", "boolean": "boolean"}


@dataclass(frozen=True)
class Field:
    """`place` numbers all fields of a lake in the order in which they were met."""

    source: str
    name: str
    kind: str
    place: int


def known_fields(lake: Lake) -> list[Field]:
    """Of all sources, in the order in which they were met."""
    return sorted((Field(**row) for row in lake.small(TABLE)), key=lambda field: field.place)


def news(
    known: Iterable[Field], source: str, found: Survey, opened: DataFrame, limit: int
) -> list[Field]:
    """Fields of this micro-batch that `source` has not had before; never more than `limit` in all.

    Where the first records of a field disagree on its kind, the kind that most of them have counts;
    where none of them says, it is ANY for good.
    """
    known = list(known)
    mine = {field.name for field in known if field.source == source}
    names = sorted(found.names - mine)[: max(0, limit - len(mine))]
    disputed = [name for name in names if found.kinds.get(name, ANY) is None]
    kinds = {**dict.fromkeys(names, ANY), **found.kinds, **_majority(opened, disputed)}
    return [
        Field(source, name, str(kinds[name]), len(known) + number)
        for number, name in enumerate(names)
    ]


def changed(known: Iterable[Field], source: str, found: Survey) -> Column | None:
    """Says of a row with its `record` which field has changed its kind, and how; null where none
    has. None where the survey saw no difference, which is the rule."""
    told: list[Column] = []
    typed = F.coalesce("typed", F.lit(True))
    for field in known:
        if field.source != source or field.kind == ANY:
            continue
        it = values(F.col("record"))[field.name]
        now = kind(it)
        text = F.concat(F.lit(f"{field.name}: {field.kind} before, "), now, F.lit(" now"))
        if found.kinds.get(field.name, field.kind) != field.kind:
            told = [*told, F.when(typed & (now != field.kind), text)]
        if field.name in found.untyped and field.kind in TYPES:
            read = F.try_variant_get(it, "$", TYPES[field.kind])
            told = [*told, F.when(~typed & now.isNotNull() & read.isNull(), text)]
    return F.coalesce(*told) if told else None


def columns(known: Iterable[Field], source: str, without: frozenset[str]) -> dict[str, str]:
    """Fields of `source` that become columns, each of the type it had first in this lake.

    `without`: names that have a column of their own. Fields whose name cannot be a column's stay
    in the payload; of two that differ in case alone the first is taken.
    """
    types: dict[str, str] = {}
    taken: dict[str, str] = {}
    for field in known:
        types.setdefault(field.name.lower(), TYPES.get(field.kind, "string"))
        fits = COLUMN_NAME.fullmatch(field.name) and field.name not in without
        if field.source == source and fits:
            taken.setdefault(field.name.lower(), field.name)
    return {name: types[lowered] for lowered, name in taken.items()}


def _majority(opened: DataFrame, names: list[str]) -> Mapping[str, str]:
    if not names:
        return {}
    typed = F.when(F.coalesce("typed", F.lit(True)), F.col("record"))
    kinds = {name: kind(values(typed)[name]).alias("kind") for name in names}
    listed = [F.struct(F.lit(name).alias("name"), found) for name, found in kinds.items()]
    pairs = opened.select(F.explode(F.array(*listed)).alias("it")).select("it.*")
    counted = pairs.where("kind IS NOT NULL").groupBy("name", "kind").count()
    rows = sorted(counted.collect(), key=lambda row: (row["count"], row["kind"]))
    return {row["name"]: row["kind"] for row in rows}  # the last of a name, which is the largest
