"""Rows of a MySQL table that are newer than the last seen, by (time of change, id).

The stream is one of ranges of that pair: each is planned once, kept as a small file, and read in
one micro-batch, again after a kill. Rows younger than the settling time are not planned: of two
transactions with one time of change, the one that is committed later must not be passed over.

A transaction may take longer than that, and then commits rows behind the place that was reached. So
each range keeps a digest of the rows before its end; where the database gives another one now, they
are planned once more, also when that happens between two questions of one plan. What has landed
before is a duplicate then, or merged a second time.
"""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import asdict, dataclass
from functools import cached_property

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_lib.adapters.folders import file_system, literal, write_text
from recsys_lib.adapters.mysql import BINARY, NUMERIC, TEMPORAL, Mysql, quoted
from recsys_lib.adapters.sources.feed import Feed, record
from recsys_lib.adapters.sources.stream import FOREVER
from recsys_lib.errors import SettingsError
from recsys_lib.settings import JdbcSettings

MOMENT = "'%Y-%m-%d %H:%i:%s.%f'"


@dataclass(frozen=True)
class Place:
    """A row's place in the order of changes; `id` is written as SQL."""

    moment: str
    id: str


@dataclass(frozen=True)
class Table:
    """One table, and the order of changes in it."""

    database: Mysql
    name: str
    settings: JdbcSettings

    def check(self) -> dict[str, int]:
        """Its columns. Raises SettingsError where those of the order are not among them."""
        found = self.database.columns(self.name)
        wanted = {"jdbc.updated": self.settings.updated, "jdbc.id": self.settings.id}
        wrong = [
            f"{key}: table {self.name} has no column {name!r}; it has {', '.join(found)}"
            for key, name in wanted.items()
            if name not in found
        ]
        if wrong:
            raise SettingsError("--source jdbc", wrong)
        return found

    def next_place(self, after: Place | None, until: str) -> Place | None:
        """The last of the next rows, as many as a micro-batch takes; None where there are none."""
        due = f"FROM {quoted(self.name)} WHERE {self._updated} <= '{until}'"
        due = f"{due} AND {self._after(after)}" if after else due
        moment = f"DATE_FORMAT({self._updated}, {MOMENT})"
        kind = self._kinds[self.settings.id]
        # Hexadecimal, so that no id can be read as SQL.
        sign = "0x" if kind in BINARY else "_utf8mb4 0x"
        identity = self._id if kind in NUMERIC else f"CONCAT('{sign}', HEX({self._id}))"
        select = f"SELECT {moment}, {identity} {due}"
        last = self.settings.max_rows_per_batch - 1
        full = f"ORDER BY {self._updated}, {self._id} LIMIT 1 OFFSET {last}"
        rest = f"ORDER BY {self._updated} DESC, {self._id} DESC LIMIT 1"
        rows = self.database.ask(f"{select} {full}") or self.database.ask(f"{select} {rest}")
        return Place(*map(str, rows[0])) if rows else None

    def tail(self, last: Place) -> str:
        """A digest of the rows that lie less than `look_back_seconds` before `last`, and of it."""
        row = f"CRC32(CONCAT_WS(' ', {self._updated}, {self._id}))"
        [found] = self.database.ask(
            f"SELECT COUNT(*), BIT_XOR({row}) FROM {quoted(self.name)} "
            f"WHERE {self._after(self.before(last))} AND NOT {self._after(last)}"
        )
        return " ".join(map(str, found))

    def before(self, last: Place) -> Place:
        """The place from which on rows are looked at again."""
        back = f"INTERVAL {round(self.settings.look_back_seconds * 1e6)} MICROSECOND"
        moment = f"CAST('{last.moment}' AS DATETIME(6)) - {back}"
        [[since]] = self.database.ask(f"SELECT DATE_FORMAT({moment}, {MOMENT})")
        # No id is larger than NULL, so rows of that very moment are not looked at; before the
        # first moment that the database knows there is nothing to look at.
        return Place(since or last.moment, "NULL")

    def settled(self) -> str:
        """Up to when rows are due, by the clock of the database."""
        table, updated = quoted(self.name), self._updated
        if self.database.ask(f"SELECT 1 FROM {table} WHERE {updated} IS NULL LIMIT 1"):
            warnings.warn(f"{self.name}: rows without {updated} never land", stacklevel=2)
        pause = f"INTERVAL {round(self.settings.settle_seconds * 1e6)} MICROSECOND"
        [[moment]] = self.database.ask(f"SELECT DATE_FORMAT(NOW(6) - {pause}, {MOMENT})")
        return str(moment)

    def rows(self, after: Place | None, last: Place) -> DataFrame:
        """Rows after one place and up to another; times as text, as the database has them."""
        columns = [
            f"CAST({quoted(n)} AS CHAR) AS {quoted(n)}" if kind in TEMPORAL else quoted(n)
            for n, kind in self.check().items()
        ]
        where = f"NOT ({self._after(last)})"
        where = f"{self._after(after)} AND {where}" if after else where
        return self.database.read(
            f"SELECT {', '.join(columns)} FROM {quoted(self.name)} "
            f"WHERE {self._updated} <= '{last.moment}' AND {where}"
        )

    @cached_property
    def _kinds(self) -> dict[str, int]:
        return self.check()

    @property
    def _updated(self) -> str:
        return quoted(self.settings.updated)

    @property
    def _id(self) -> str:
        return quoted(self.settings.id)

    def _after(self, place: Place) -> str:
        same = f"{self._updated} = '{place.moment}' AND {self._id} > {place.id}"
        return f"({self._updated} > '{place.moment}' OR ({same}))"


@dataclass(frozen=True)
class Ranges:
    """The planned ranges of a table: numbered files, each with its first and last place."""

    folder: str

    def plan(self, table: Table) -> None:
        """Write down all that is due now. A kill leaves whole ranges; the next plan goes on.

        Ranges are read when the plan is made: what is committed in them meanwhile is read with
        them. Only what lies behind the first of them may have been read before.
        """
        fs, inner = file_system(self.folder)
        fs.makedirs(inner, exist_ok=True)
        done = sorted(f for f in fs.ls(inner, detail=False) if f.endswith(".json"))
        reached: Place | None = None
        after: Place | None = None
        seen: str | None = None
        if done:
            with fs.open(done[-1], "r") as file:
                kept = json.load(file)
            after = reached = Place(**kept["last"])
            seen = table.tail(reached)
            if seen != kept.get("tail"):
                after = table.before(reached)
        number, until = len(done), table.settled()
        while (last := table.next_place(after, until)) is not None:
            tail = table.tail(last)
            if after is not None and after == reached and table.tail(reached) != seen:
                # Committed since it was looked at: in the new digest, and in no range yet.
                after = table.before(reached)
                continue
            ends = {"after": asdict(after) if after else None, "last": asdict(last)}
            planned = {**ends, "tail": tail}
            write_text(f"{self.folder}/{number:012d}.json", json.dumps(planned))
            number, after, reached = number + 1, last, None


def jdbc_feed(spark: SparkSession, settings: JdbcSettings, name: str, folder: str) -> Feed:
    """The table `name`. Ranges are kept in `folder`. Raises SettingsError."""
    table = Table(Mysql.of(spark, settings, "--source jdbc"), name, settings)
    table.check()
    safe = re.sub(r"\W+", "-", name)
    ranges = Ranges(f"{folder}/jdbc-{safe}.ranges")
    place = "struct<moment string, id string>"

    def stream() -> DataFrame:
        ranges.plan(table)
        return (
            spark.readStream.schema(f"after {place}, last {place}")
            .option("maxFilesPerTrigger", 1)
            .option("maxFileAge", FOREVER)
            .option("pathGlobFilter", "*.json")
            .json(literal(ranges.folder))
        )

    def records(batch: DataFrame) -> DataFrame:
        [row] = batch.collect()
        after = Place(**row["after"].asDict()) if row["after"] else None
        rows = table.rows(after, Place(**row["last"].asDict()))
        return rows.select(*record(F.to_json(F.struct("*")), F.lit(name)))

    return Feed("jdbc", safe, stream, records, settings=_told(settings, name))


def _told(settings: JdbcSettings, name: str) -> dict[str, str]:
    """Server, database and table; options of the connection, a password perhaps, do not matter."""
    place = re.sub(r"^jdbc:\w+://", "", str(settings.url)).partition("?")[0]
    return {"jdbc.url": place, "the table": name}
