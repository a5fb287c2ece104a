"""Micro-batches of an endless source -> bronze, each exactly once, while its fields change."""

from __future__ import annotations

from difflib import get_close_matches

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_lib.errors import SettingsError
from recsys_lib.expressions import arrival
from recsys_lib.ingest import fields
from recsys_lib.ingest.axis import Axis, find_axis, keep_axis, kept_axis
from recsys_lib.ingest.bronze import check_mapping, meaning, texts_of
from recsys_lib.ingest.reader import FieldReader
from recsys_lib.ingest.records import (
    UNREADABLE,
    Survey,
    canonical,
    open_records,
    record_of,
    surveyed,
)
from recsys_lib.ingest.references import Tree, kinds_of, no_columns, referred
from recsys_lib.mapping import Mapping
from recsys_lib.settings import CleanSettings, IngestSettings
from recsys_lib.tables import Lake

TABLE = "bronze"
CHANGED = "changed_type"
RECORD, FIELDS = "__record", "__more"
NUMBERS = ("value", "quantity", "time.epoch")
# So many records, of which not one has what the mapping calls the user, say that it is wrong.
ENOUGH = 100


class Landing:
    """Lands what one source sends. The axis and the known fields are tables of the lake, so that
    whoever goes on after a kill sees what its predecessor saw."""

    def __init__(
        self,
        lake: Lake,
        source: str,
        mapping: Mapping,
        settings: IngestSettings,
        clean: CleanSettings,
    ) -> None:
        self.lake, self.source, self.mapping = lake, source, mapping
        self.settings, self.earliest = settings, clean.earliest
        self._known = fields.known_fields(lake)
        self._tree: tuple[frozenset[str], Tree, frozenset[str]] | None = None
        self._empty = lake.spark.createDataFrame([], f"{RECORD} int")
        self._check_sql()

    def land(self, raw: DataFrame, app: str, number: int) -> int:
        """Append one micro-batch (see types.RAW_RECORD) unless it has landed; rows appended now.

        Raises SettingsError where the mapping speaks of nothing that the records have, before
        anything has landed.
        """
        if self.lake.done(TABLE, app, number):
            return 0
        self._known = fields.known_fields(self.lake)  # another source may have met more of them
        kept, found = surveyed(raw)
        try:
            self._check(found)
            self._learn_fields(found, kept, app, number)
            change = fields.changed(self._known, self.source, found)
            whole = kept if change is None else open_records(kept)
            rows = self._bronze(whole, change, found)
            stamped = rows.withColumns(arrival(number))
            wrote = self.lake.append_once(TABLE, stamped, app=app, version=number)
        finally:
            kept.unpersist()
        return found.rows if wrote else 0

    def again(self, payloads: DataFrame, axis: Axis) -> DataFrame:
        """Bronze rows of records that have come before (`payload`), read as they would be now: with
        their key, where they have no id of their own, and their fields. What has changed its type
        is read as far as it goes. Nothing is written."""
        nothing = F.lit(None).cast("string")
        unknown = dict.fromkeys(("problem", "detail", "origin"), nothing)
        unknown = {**unknown, "partition": nothing.cast("int"), "offset": nothing.cast("bigint")}
        opened = open_records(payloads.select("payload").withColumns(unknown))
        rows = opened.withColumn("whole", F.col("record").isNotNull()).drop("record")
        return self._bronze(rows, None, axis=axis)

    def _learn_fields(self, found: Survey, kept: DataFrame, app: str, number: int) -> None:
        limit = self.settings.max_fields
        new = fields.news(self._known, self.source, found, open_records(kept), limit)
        if not new:
            return
        values = [(f.source, f.name, f.kind, f.place) for f in new]
        rows = self.lake.spark.createDataFrame(values, fields.SCHEMA).coalesce(1)
        self.lake.append_once(fields.TABLE, rows, app=app, version=number)
        self._known = fields.known_fields(self.lake)

    def _bronze(
        self,
        rows: DataFrame,
        change: Column | None,
        found: Survey | None = None,
        axis: Axis | None = None,
    ) -> DataFrame:
        """`found` None: no survey was made, a field may hold anything."""
        more = fields.columns(self._known, self.source, _plain(self.mapping))
        tree, alone = self._named()
        numbers = found.numbers & alone if found else frozenset()
        named = kinds_of(tree) | dict.fromkeys(numbers, "double")
        strange = found.strange if found else frozenset([*named, *more])
        reader = FieldReader([*named.items(), *more.items()], strange, numbers)
        whole = F.col("whole")
        told = {
            "payload": F.coalesce("payload", F.lit("")),
            "whole": whole,
            "origin": F.col("origin"),
            "partition": F.col("partition"),
            "offset": F.col("offset"),
            "problem": F.coalesce("problem", F.when(~whole, UNREADABLE)),
            "detail": F.col("detail"),
            "change": F.lit(None).cast("string") if change is None else change,
        }
        record = F.struct(*(column.alias(name) for name, column in told.items())).alias(RECORD)
        opened = reader.open(rows, record)
        struct = [F.when(F.col(RECORD)["whole"], F.struct(*reader.fields(more))).alias(FIELDS)]
        read = opened.select(RECORD, *reader.fields(named), *(struct if more else []))
        return self._meant(read, self._axis(read) if axis is None else axis, bool(more))

    def _meant(self, rows: DataFrame, axis: Axis, more: bool) -> DataFrame:
        """Bronze rows, of RECORD and the fields that the mapping speaks of."""
        told = meaning(rows, self.mapping, axis, self.earliest)
        own_key, rejected = told.pop("own_key"), told.pop("rejected")
        it = F.col(RECORD)
        # A record is opened once more only where its content has to tell it from others.
        content = F.when(it["whole"], canonical(record_of(it["payload"])))
        changed = F.when(it["change"].isNotNull(), CHANGED)
        return rows.select(
            F.lit(self.source).alias("source"),
            F.md5(F.coalesce(own_key, content, it["payload"])).alias("key"),
            it["payload"].alias("payload"),
            *(column.alias(name) for name, column in told.items()),
            F.coalesce(it["problem"], changed, rejected).alias("rejected"),
            F.coalesce(it["detail"], it["change"]).alias("detail"),
            *(it[name].alias(name) for name in ("origin", "partition", "offset")),
            *([F.col(FIELDS).alias("fields")] if more else []),
        )

    def _axis(self, rows: DataFrame) -> Axis:
        """The mapping's own, else the one that was fixed when the first records came."""
        mapping = self.mapping
        if mapping.windows.start is not None or mapping.time.period is not None:
            return find_axis(rows, mapping, self.earliest)
        axis = kept_axis(self.lake)
        if axis is None:
            axis = find_axis(rows, mapping, self.earliest)
            keep_axis(self.lake, axis)
        return axis

    def _named(self) -> tuple[Tree, frozenset[str]]:
        """Fields the mapping speaks of, the known ones deciding how its texts are read; and those
        of them that it takes for numbers, by their names, and for nothing else."""
        known = frozenset(field.name for field in self._known if field.source == self.source)
        if self._tree is None or self._tree[0] != known:
            texts = {place: text for place, text in texts_of(self.mapping).items() if text}
            tree = referred(texts.values(), known, self._empty)
            # A name inside of another one passes for a mention: that costs time and harms nothing.
            others = " ".join(t for place, t in texts.items() if place not in NUMBERS).lower()
            numbers = {texts.get(place, "") for place in NUMBERS} & tree.keys()
            alone = frozenset(name for name in numbers if name.lower() not in others)
            self._tree = known, tree, alone
        return self._tree[1:]

    def _check_sql(self) -> None:
        """What is no SQL, or no condition where one is wanted, is told before anything is read."""
        columns = no_columns(self._named()[0])
        check_mapping(self._empty.select(F.lit(1).alias(RECORD), *columns), self.mapping)

    def _check(self, found: Survey) -> None:
        """A mapping for other records would send all of them to quarantine."""
        if found.objects < ENOUGH or self.lake.exists(TABLE):
            return
        wrong: list[str] = []
        for place, text in texts_of(self.mapping).items():
            needed = place in ("user", "item", "type", "id") or place.startswith("time.")
            names = set(referred([text], found.names, self._empty)) if needed and text else set()
            if names and not names & found.names:
                wrong = [*wrong, _absent(place, min(names), found)]
        if wrong:
            raise SettingsError(self.mapping.name, wrong)


def _absent(place: str, name: str, found: Survey) -> str:
    has = ", ".join(sorted(found.names))
    near = get_close_matches(name, list(found.names), n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{place}: not one of {found.objects} records has {name!r}; {hint}they have {has}"


def _plain(mapping: Mapping) -> frozenset[str]:
    """Fields that have a column of their own in bronze, under the name of what they mean."""
    values = ("user", "item", "type", "order", "id", "value", "quantity", "time.timestamp")
    texts = texts_of(mapping)
    return frozenset(text for name in values if (text := texts[name]) is not None)
