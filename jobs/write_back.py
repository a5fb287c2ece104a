"""Merge what the loop has made into MySQL: a slate for each user, summaries of items and users.

  spark-submit jobs/write_back.py --out build/live --set jdbc.url=jdbc:mysql://HOST:3306/shop \\
      --set jdbc.user=NAME --set jdbc.password_variable=SHOP_PASSWORD

Tables (names begin with the setting write_back.prefix, made where they are missing; key `id`):
  slates  items, scores (JSON lists, best first), model_version, last_window
  items   events, users, value, first_event, last_event (UTC), last_window
  users   events, items, value, first_event, last_event (UTC), last_window
Killed at any moment, the same command gives the same tables; an older run changes no newer row.
"""

from __future__ import annotations

from pyspark.sql import DataFrame

from jobs.context import Context, log, opened, parser, run
from recsys_lib.adapters.mysql import Mysql
from recsys_lib.catalog.summaries import latest_slates, summaries
from recsys_lib.errors import LakeError

NUMBERS = "events BIGINT NOT NULL, value DOUBLE, first_event DATETIME(6), last_event DATETIME(6)"
COLUMNS = {
    "slates": "items LONGTEXT, scores LONGTEXT, model_version INT, last_window INT",
    "items": f"users BIGINT NOT NULL, {NUMBERS}, last_window INT",
    "users": f"items BIGINT NOT NULL, {NUMBERS}, last_window INT",
}


def write_back(context: Context) -> dict[str, int]:
    """Rows merged into each table; only those whose source is in the lake."""
    database = Mysql.of(context.spark, context.settings.jdbc, "write_back")
    merged: dict[str, int] = {}
    for name, rows in _rows(context).items():
        table = f"{context.settings.write_back.prefix}{name}"
        count = database.merge(table, rows, COLUMNS[name], newer="last_window")
        merged = {**merged, table: count}
        log.info("wrote %s rows to %s", count, table)
    return merged


def _rows(context: Context) -> dict[str, DataFrame]:
    lake = context.lake
    found: dict[str, DataFrame] = {}
    if lake.exists("silver"):
        silver = lake.read("silver")
        found = {"items": summaries(silver, "item"), "users": summaries(silver, "user")}
    if lake.exists("recommendations"):
        champion = context.tracking.champion()
        serves = None if champion is None else champion.version
        found = {**found, "slates": latest_slates(lake.read("recommendations"), serves)}
    if not found:
        raise LakeError(f"{lake.root} must hold silver or recommendations; land something first")
    return found


def main(argv: list[str]) -> None:
    args = parser(__doc__).parse_args(argv)
    with opened(args, "write back") as context, context.alone_with_models("write back"):
        for table, count in write_back(context).items():
            print(f"{table}: {count} rows merged")


if __name__ == "__main__":
    run(main)
