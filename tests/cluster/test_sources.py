"""Each source on the real thing, all the way to silver on HDFS."""

from __future__ import annotations

import gzip
import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from jobs import write_back
from recsys_lib.adapters.alone import alone
from recsys_lib.adapters.folders import file_system
from recsys_lib.adapters.mysql import Mysql
from recsys_lib.clean.report import as_table
from recsys_lib.errors import LakeError, SourceError
from tests.adapters.sources.shop_api import TOKEN, serving
from tests.cluster.cluster import Cluster
from tests.cluster.live import Live, event, said, text
from tests.cluster.mariadb import PASSWORD, USER

pytestmark = pytest.mark.cluster


def ids(live: Live) -> list[str]:
    return sorted(json.loads(row["payload"])["event_id"] for row in live.rows("bronze", "payload"))


def summary(line: str, **rules: int) -> str:
    return f"{line}\n{as_table({rule: (rows, 0) for rule, rows in rules.items()})}"


def rules(live: Live) -> dict[str, int]:
    return dict(Counter(row["rule"] for row in live.rows("quarantine", "rule")))


def test_kafka_and_files_and_an_api_share_a_lake_and_an_event_is_silver_once(
    live: Live, kafka: str, cluster: Cluster
) -> None:
    live.mapping()
    live.send(kafka, "shared", [text("1"), text("2", coupon="x"), '{"cut', text("1")])
    settings = {"kafka.servers": kafka, "kafka.topic": "shared"}
    busy = pytest.raises(LakeError, match=r"land must have hdfs://.*, but reingest")
    with alone(live.lake, "reingest", 0), busy:
        live.land("kafka", {**settings, "lake.wait_seconds": 0})
    ended = live.land("kafka", settings)
    assert ended == summary("landed 4, silver 2, quarantine 2", duplicate=1, unreadable=1)

    inbox = f"{live.lake}-inbox"
    fs, inner = file_system(inbox)
    fs.makedirs(inner)
    lines = "".join(f"{text(number)}\n" for number in ("2", "3"))
    whole = gzip.compress("".join(text(f"x{n}") + "\n" for n in range(5000)).encode())
    files = {
        "1.jsonl": lines.encode(),
        "2.csv": b"event_id,visitor,product,action,at,price\n4,u,i,buy,2024-01-09,2\n5,u\n",
        "3.jsonl.gz": gzip.compress(f"{text('5')}\n".encode()),
        "4.jsonl.gz": whole[: len(whole) // 2],
    }
    for name, content in files.items():
        with fs.open(f"{inner}/{name}", "wb") as file:
            file.write(content)
    ended = live.land("files", {"files.path": inbox})
    aside = {"damaged_file": 1, "duplicate": 1, "unreadable": 1}
    assert ended == summary("landed 6, silver 3, quarantine 3", **aside)

    events = [event(n, at=f"2024-01-0{n}T10:00:00Z") for n in ("1", "7", "8")]
    with serving(events) as api:
        http = {"http.url": api.url, "http.token_variable": "SHOP", "http.start": "2024-01-01"}
        http = {**http, "http.window_hours": 24 * 200}
        api.moods = [(503, {}, b""), (429, {"Retry-After": "1"}, b"")]
        ended = live.land("http", http, TOKEN)
        assert ended == summary("landed 3, silver 2, quarantine 1", duplicate=1)
    silver = live.rows("silver", "key", "source")
    assert Counter(row["source"] for row in silver) == {"kafka": 2, "files": 3, "http": 2}
    assert len({row["key"] for row in silver}) == 7


def test_fields_come_and_go_while_a_topic_lands_without_losing_an_offset(
    live: Live, kafka: str
) -> None:
    live.mapping()
    settings = {"kafka.servers": kafka, "kafka.topic": "changing"}
    live.send(kafka, "changing", [text("1"), text("2")])
    live.land("kafka", settings)
    changed = [text("3", coupon="x", price=2), text("4", price="dear"), text("5", coupon=7)]
    without = {name: value for name, value in event("6").items() if name != "price"}
    live.send(kafka, "changing", [*changed, text("7", coupon="y"), json.dumps(without)])
    live.land("kafka", settings)
    offsets = [(row["partition"], row["offset"]) for row in live.rows("bronze")]
    assert len(set(offsets)) == len(offsets) == 7
    silver = {row["fields"] and row["fields"]["coupon"] for row in live.rows("silver", "fields")}
    assert silver == {None, "x", "y"}
    assert rules(live) == {"changed_type": 2}
    values = [row["value"] for row in live.rows("silver", "value")]
    assert sorted(values, key=str) == [1.5, 1.5, 1.5, 2.0, None]


def test_records_that_the_broker_dropped_are_told_and_nothing_is_skipped(
    live: Live, kafka: str
) -> None:
    live.mapping()
    settings = {"kafka.servers": kafka, "kafka.topic": "dropped"}
    live.send(kafka, "dropped", [text("1"), text("2"), text("3")])
    live.land("kafka", settings)
    _drop_topic(live, kafka, "dropped")
    live.send(kafka, "dropped", [text("4")])
    with pytest.raises(SourceError, match="the broker no longer has records that were due"):
        live.land("kafka", settings)
    assert ids(live) == ["1", "2", "3"]
    onward = {**settings, "kafka.fail_on_data_loss": "false"}
    live.land("kafka", onward)
    live.send(kafka, "dropped", [text(str(number)) for number in range(5, 9)])
    live.land("kafka", onward)
    assert set(ids(live)) >= {"1", "2", "3", "5", "6", "7", "8"}


def _drop_topic(live: Live, servers: str, topic: str) -> None:
    jvm: Any = live.spark.sparkContext._jvm
    conf = jvm.java.util.Properties()
    conf.put("bootstrap.servers", servers)
    admin = jvm.org.apache.kafka.clients.admin.AdminClient.create(conf)
    names = jvm.java.util.ArrayList()
    names.add(topic)
    admin.deleteTopics(names).all().get()
    while admin.listTopics().names().get().contains(topic):
        time.sleep(0.1)
    admin.close()


@pytest.fixture
def shop(cluster: Cluster, mariadb: str) -> Iterator[Cluster]:
    """Tables as a shop has them: seconds are all that its clock tells."""
    facts = "updated_at TIMESTAMP NOT NULL, KEY (updated_at, id)"
    cluster.sql(
        "CREATE TABLE behaviour (id BIGINT PRIMARY KEY, who VARCHAR(20), what VARCHAR(20), "
        f"at DATETIME(6), price DECIMAL(8,2), {facts}); "
        f"CREATE TABLE products (id VARCHAR(20) PRIMARY KEY, shelf VARCHAR(20), {facts}); "
        f"CREATE TABLE people (id VARCHAR(20) PRIMARY KEY, town VARCHAR(20), {facts});"
    )
    yield cluster
    cluster.sql("DROP TABLE behaviour, products, people;")


def test_rows_of_mysql_land_by_time_and_id_though_moments_are_equal_or_commits_late(
    live: Live, shop: Cluster, mariadb: str
) -> None:
    table = {"id": "id", "path": "jdbc"}
    live.mapping(
        user="who",
        item="what",
        type="'buy'",
        id="id",
        items={**table, "attributes": {"shelf": "shelf"}},
        users={**table, "attributes": {"town": "town"}},
    )
    settings = {
        "jdbc.url": mariadb,
        "jdbc.user": USER,
        "jdbc.password_variable": "SHOP",
        "jdbc.events": "behaviour",
        "jdbc.items": "products",
        "jdbc.users": "people",
        "jdbc.settle_seconds": 2,
        "jdbc.max_rows_per_batch": 7,
    }
    same = "2024-01-09 10:00:00"
    rows = [f"({n}, 'u{n % 3}', 'i', '2024-01-08 10:00:00.5', 1.50, '{same}')" for n in range(20)]
    shop.sql(f"INSERT INTO behaviour VALUES {', '.join(rows)};")
    shop.sql(f"INSERT INTO products VALUES ('i', 'top', '{same}'), ('b''\\\\c', 'x', '{same}');")
    shop.sql(f"INSERT INTO people VALUES ('u1', 'Ulm', '{same}');")
    ended = live.land("jdbc", settings, PASSWORD)
    assert ended == "landed 20, silver 20, quarantine 0"
    # Committed later with the moment and a larger id; an older row changed; one not settled yet.
    shop.sql(f"INSERT INTO behaviour VALUES (99, 'u1', 'i', '2024-01-08', 2, '{same}');")
    shop.sql("UPDATE products SET shelf = 'low', updated_at = '2024-01-10' WHERE id = 'i';")
    shop.sql(
        "INSERT INTO behaviour VALUES (100, 'u1', 'i', '2024-01-08', 2, NOW() + INTERVAL 1 DAY);"
    )
    ended = live.land("jdbc", settings, PASSWORD)
    assert ended == "landed 1, silver 1, quarantine 0"
    numbers = sorted(json.loads(row["payload"])["id"] for row in live.rows("bronze", "payload"))
    assert numbers == [*range(20), 99]
    # A long transaction: its row was written before the last that landed, and is committed after.
    late = "2024-01-09 09:55:00"
    shop.sql(f"INSERT INTO behaviour VALUES (50, 'u1', 'i', '2024-01-08', 2, '{late}');")
    ended = live.land("jdbc", settings, PASSWORD)
    assert ended == summary("landed 22, silver 1, quarantine 21", duplicate=21)
    ended = live.land("jdbc", settings, PASSWORD)
    assert ended == "landed 0, silver 0, quarantine 0"
    silver = live.rows("silver", "key")
    assert len(silver) == len({row["key"] for row in silver}) == 22
    assert {row["time"].isoformat() for row in live.rows("silver", "time")} == {
        "2024-01-08T10:00:00.500000+00:00",
        "2024-01-08T00:00:00+00:00",
    }
    shelves = {row["id"]: row["shelf"] for row in live.rows("items", "id", "shelf")}
    assert shelves == {"i": "low", "b'\\c": "x"}
    assert [row["town"] for row in live.rows("users", "town")] == ["Ulm"]


def test_rows_of_mysql_whose_ids_are_bytes_land_in_their_order(
    live: Live, cluster: Cluster, mariadb: str
) -> None:
    live.mapping(user="who", item="what", type="'buy'", id="id")
    settings = {
        "jdbc.url": mariadb,
        "jdbc.user": USER,
        "jdbc.password_variable": "SHOP",
        "jdbc.events": "visits",
        "jdbc.settle_seconds": 0,
        "jdbc.max_rows_per_batch": 1,
    }
    cluster.sql(
        "CREATE TABLE visits (id BINARY(2) PRIMARY KEY, who VARCHAR(9), what VARCHAR(9), "
        "at DATETIME, updated_at TIMESTAMP NOT NULL);"
    )
    place = "'u', 'i', '2024-01-08', '2024-01-09'"
    rows = ", ".join(f"(0x{number}, {place})" for number in ("00FF", "80FE", "FFC3"))
    try:
        cluster.sql(f"INSERT INTO visits VALUES {rows};")
        assert live.land("jdbc", settings, PASSWORD) == "landed 3, silver 3, quarantine 0"
        assert live.land("jdbc", settings, PASSWORD) == "landed 0, silver 0, quarantine 0"
    finally:
        cluster.sql("DROP TABLE visits;")


@contextmanager
def dying(statements: int) -> Iterator[None]:
    """The process ends when it has said so many statements to MySQL."""
    run, left = Mysql.run, iter(range(statements))

    def last(database: Mysql, *sql: str) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        run(database, *sql)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Mysql, "run", last)
        yield


def test_slates_and_summaries_are_merged_into_mysql_once_though_killed_and_only_if_newer(
    live: Live, shop: Cluster, mariadb: str
) -> None:
    live.mapping()
    live.spark.createDataFrame(
        [("u1", "i1", 1.5, 1), ("u1", "i2", 2.0, 2), ("u2", "i1", None, 1)],
        "user string, item string, value double, window int",
    ).selectExpr("*", "timestamp'2024-01-09 10:00:00' AS time").write.format("delta").save(
        f"{live.lake}/silver"
    )
    slates = [("u1", ["i1"], [0.5], 1, 1), ("u1", ["i2", "i1"], [0.75, 0.5], 2, 2)]
    schema = "user string, items array<string>, scores array<float>, model_version int, window int"
    rows = live.spark.createDataFrame(slates, schema)
    rows.write.format("delta").save(f"{live.lake}/recommendations")
    (live.folder / "out").mkdir()
    (live.folder / "mapping.yaml").rename(live.folder / "out" / "mapping.yaml")
    sets = {"lake.root": live.lake, "jdbc.url": mariadb, "jdbc.user": USER}
    sets = {**sets, "jdbc.password_variable": "SHOP"}
    args = ["--out", str(live.folder / "out"), *(f"--set={k}={v}" for k, v in sets.items())]
    # Killed as the first table is made, before and after its rows are merged, in the second table.
    for statements in (0, 1, 2, 4):
        with pytest.raises(KeyboardInterrupt), dying(statements):
            said(write_back.main, args, PASSWORD)
    assert "staging" in shop.sql("SHOW TABLES;")
    for _ in range(2):
        assert "alluvium_slates: 1 rows merged" in said(write_back.main, args, PASSWORD)
        told = shop.sql("SELECT id, items, scores, model_version FROM alluvium_slates;")
        assert told == 'u1\t["i2","i1"]\t[0.75,0.5]\t2\n'
        told = shop.sql("SELECT id, events, items, value FROM alluvium_users ORDER BY id;")
        assert told == "u1\t2\t2\t3.5\nu2\t1\t1\tNULL\n"
        told = shop.sql("SELECT id, last_event FROM alluvium_items ORDER BY id;")
        assert told == "i1\t2024-01-09 10:00:00.000000\ni2\t2024-01-09 10:00:00.000000\n"
        assert "staging" not in shop.sql("SHOW TABLES;")
        # As if a newer run had been there before the second one.
        shop.sql("UPDATE alluvium_items SET events = 99, last_window = 7 WHERE id = 'i1';")
        shop.sql("UPDATE alluvium_slates SET items = 'stale', last_window = 1;")
    told = shop.sql("SELECT id, events, last_window FROM alluvium_items ORDER BY id;")
    assert told == "i1\t99\t7\ni2\t1\t2\n"
