"""What tests of live sources share: send to Kafka, land by a job, look at the lake from outside."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from jobs import land
from recsys_lib.adapters.folders import file_system
from tests.jobs.launch import Ended, Job, run

MAPPING = {
    "name": "live_shop",
    "user": "visitor",
    "item": "product",
    "type": "action",
    "time": {"timestamp": "at"},
    "id": "event_id",
    "value": "price",
    "windows": {"start": "2024-01-01T00:00:00", "days": 7, "history": 4},
}


# Many rows in one pass, unlike in other tests: what is compiled for them is paid back, where the
# job lives to its end.
COMPILED = {"spark.ui.enabled": "false"}


def said(main: Callable[[list[str]], None], args: list[str], secret: str = "") -> str:
    """What a job prints, with a password in the environment variable SHOP."""
    out = StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out):
        patch.setenv("SHOP", secret)
        main(args)
    return out.getvalue().strip()


@dataclass(frozen=True)
class Live:
    """A run folder, its lake on HDFS, and the jobs that work on it."""

    spark: SparkSession
    folder: Path
    lake: str

    def mapping(self, **changes: Any) -> Path:
        file = self.folder / "mapping.yaml"
        file.write_text(yaml.safe_dump({**MAPPING, **changes}))
        return file

    def arguments(self, source: str, settings: Mapping[str, object]) -> list[object]:
        sets = {"lake.root": self.lake, **settings}
        said = [f"--set={name}={value}" for name, value in sets.items()]
        told: list[object] = ["--source", source, "--mapping", self.folder / "mapping.yaml"]
        return [*told, "--out", self.folder / "out", *said]

    def land(self, source: str, settings: Mapping[str, object], secret: str = "") -> str:
        """To the end of what is there, in this session; what the job says."""
        return said(land.main, list(map(str, self.arguments(source, settings))), secret)

    def land_alone(self, source: str, settings: Mapping[str, object]) -> Ended:
        """The same in a process of its own. Fails where the job does."""
        args, log = self.arguments(source, settings), self.folder / "land"
        ended = run("land", *args, log=log, small=False, conf=COMPILED)
        assert ended.code == 0, ended.said
        return ended

    def job(self, source: str, settings: Mapping[str, object], *more: object) -> Job:
        args = [*self.arguments(source, settings), *more]
        return Job("land", *args, log=self.folder / "killed", small=False)

    def rows(self, table: str, *names: str) -> list[dict[str, Any]]:
        file_system(self.lake)  # delta-rs knows hdfs:// by itself, Python's file systems do not
        found = DeltaTable(f"{self.lake}/{table}").to_pyarrow_table(columns=list(names) or None)
        return list(found.to_pylist())

    def send(self, servers: str, topic: str, payloads: Iterable[str | bytes]) -> None:
        """Append to a topic, in this order, all in one partition where there are few."""
        values = [(bytearray(p.encode() if isinstance(p, str) else p),) for p in payloads]
        rows = self.spark.createDataFrame(values, "value binary").coalesce(1)
        writer = rows.write.format("kafka").option("kafka.bootstrap.servers", servers)
        writer.option("topic", topic).save()


def event(number: str, **changes: Any) -> dict[str, Any]:
    """A good one, in the words of MAPPING."""
    plain = {"event_id": number, "visitor": "u1", "product": "i1", "action": "buy"}
    return {**plain, "at": "2024-01-09 10:00:00", "price": 1.5, **changes}


def text(number: str, **changes: Any) -> str:
    return json.dumps(event(number, **changes))
