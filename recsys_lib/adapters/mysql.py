"""MySQL and MariaDB by JDBC: single statements through the driver's JVM, rows through Spark."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.sql import DataFrame, SparkSession

from recsys_lib.errors import SettingsError, SourceError
from recsys_lib.settings import JdbcSettings

DRIVER = "org.mariadb.jdbc.Driver"
# java.sql.Types: DATE, TIME, TIMESTAMP, the last two also with zone
TEMPORAL = (91, 92, 93, 2013, 2014)
LONGEST = 255  # characters of an id that is a key
BINARY = (-4, -3, -2)
NUMERIC = (-7, -6, -5, 2, 3, 4, 5, 6, 7, 8)


@dataclass(frozen=True)
class Mysql:
    """One database. Every session is in UTC, so that times mean the same wherever this runs."""

    spark: SparkSession
    url: str
    user: str
    password: str = field(repr=False)

    @staticmethod
    def of(spark: SparkSession, settings: JdbcSettings, source: str) -> Mysql:
        """Raises SettingsError with everything that is missing."""
        variable = settings.password_variable
        password = os.environ.get(variable) if variable else None
        wrong = [f"jdbc.{n} must be set" for n in ("url", "user") if getattr(settings, n) is None]
        if settings.url and not re.match(r"jdbc:(mysql|mariadb)://", settings.url):
            wrong = [*wrong, f"jdbc.url must be jdbc:mysql://… or jdbc:mariadb://…: {settings.url}"]
        if variable and password is None:
            wrong = [*wrong, f"the environment variable {variable} must hold the password"]
        if wrong:
            raise SettingsError(source, wrong)
        return Mysql(spark, str(settings.url), str(settings.user), password or "")

    def columns(self, table: str) -> dict[str, int]:
        """{column: java.sql.Types}. Raises SourceError where the table is not there."""
        with self._statement() as statement:
            facts = statement.executeQuery(f"SELECT * FROM {quoted(table)} LIMIT 0").getMetaData()
            places = range(1, facts.getColumnCount() + 1)
            return {facts.getColumnLabel(n): facts.getColumnType(n) for n in places}

    def ask(self, sql: str) -> list[tuple[str | None, ...]]:
        """A few rows, as text."""
        with self._statement() as statement:
            found = statement.executeQuery(sql)
            count = found.getMetaData().getColumnCount()
            rows: list[tuple[str | None, ...]] = []
            while found.next():
                rows = [*rows, tuple(found.getString(n) for n in range(1, count + 1))]
            return rows

    def run(self, *statements: str) -> None:
        """All or, where the tables can do that, none."""
        with self._statement() as statement:
            connection = statement.getConnection()
            connection.setAutoCommit(False)
            for sql in statements:
                statement.execute(sql)
            connection.commit()

    def read(self, sql: str) -> DataFrame:
        """The rows of a query, read by the executors."""
        return self.spark.read.format("jdbc").options(**self._options()).option("query", sql).load()

    def merge(self, table: str, rows: DataFrame, columns: str, *, newer: str) -> int:
        """Insert `rows`, or replace those with the same `id` unless theirs is `newer`; rows merged.

        `columns` as in CREATE TABLE, without `id`. The rows go to a table beside first, which a
        kill may leave behind; then one statement merges all or nothing. A row whose id is longer
        than a key may be is left out, with a warning.
        """
        beside, names = f"{table}_staging", listed(rows.columns)
        key = f"`id` VARCHAR({LONGEST}) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL"
        self.run(
            f"CREATE TABLE IF NOT EXISTS {quoted(table)} ({key}, {columns}, PRIMARY KEY (`id`))",
            f"DROP TABLE IF EXISTS {quoted(beside)}",
            f"CREATE TABLE {quoted(beside)} ({key}, {columns})",
        )
        fits = rows.where(f"length(id) <= {LONGEST}")
        writer = fits.write.format("jdbc").mode("append").options(**self._options())
        writer.option("dbtable", quoted(beside)).save()
        # By the table's name, because both tables have these columns.
        old = {name: f"{quoted(table)}.{quoted(name)}" for name in rows.columns}
        later = f"VALUES({quoted(newer)}) >= COALESCE({old[newer]}, VALUES({quoted(newer)}))"
        # The column that is compared comes last: MySQL assigns from left to right.
        order = [*(name for name in rows.columns if name not in ("id", newer)), newer]
        sets = [f"{old[n]} = IF({later}, VALUES({quoted(n)}), {old[n]})" for n in order]
        self.run(
            f"INSERT INTO {quoted(table)} ({names}) SELECT {names} FROM {quoted(beside)} "
            f"ON DUPLICATE KEY UPDATE {', '.join(sets)}"
        )
        [[count]] = self.ask(f"SELECT COUNT(DISTINCT `id`) FROM {quoted(beside)}")
        self.run(f"DROP TABLE {quoted(beside)}")
        left = rows.where(f"length(id) > {LONGEST}").count()
        if left:
            warnings.warn(f"{table}: {left} ids are longer than {LONGEST}", stacklevel=2)
        return int(str(count))

    def _options(self) -> dict[str, str]:
        return {
            "url": self._address(),
            "driver": DRIVER,
            "user": self.user,
            "password": self.password,
        }

    def _address(self) -> str:
        """Spark knows MySQL's quotes by the name of the scheme, which the driver must allow."""
        url = re.sub("^jdbc:mariadb:", "jdbc:mysql:", self.url)
        joint = "&" if "?" in url else "?"
        wanted = "permitMysqlScheme&sessionVariables=time_zone='+00:00'&rewriteBatchedStatements"
        return f"{url}{joint}{wanted}=true"

    @contextmanager
    def _statement(self) -> Iterator[Any]:
        """A statement on a connection of its own. Raises SourceError."""
        jvm: Any = self.spark.sparkContext._jvm
        connection = None
        try:
            jvm.org.apache.spark.sql.execution.datasources.jdbc.DriverRegistry.register(DRIVER)
            address, manager = self._address(), jvm.java.sql.DriverManager
            connection = manager.getConnection(address, self.user, self.password)
            yield connection.createStatement()
        except Py4JJavaError as error:
            raise SourceError(self._told(error)) from error
        finally:
            if connection is not None:
                connection.close()

    def _told(self, error: Py4JJavaError) -> str:
        said = str(error.java_exception.toString()).splitlines()[0]
        if "ClassNotFound" in said:
            return "Spark lacks the MariaDB driver; `make setup` brings it where Maven is installed"
        return f"{self.url}: {said}; look at jdbc.url, jdbc.user and the names of the tables"


def quoted(name: str) -> str:
    """A column's or table's name; `database.table` is two."""
    return ".".join(f"`{part.replace('`', '``')}`" for part in name.split("."))


def listed(names: Sequence[str]) -> str:
    return ", ".join(quoted(name) for name in names)
