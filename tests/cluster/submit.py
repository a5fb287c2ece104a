"""Jobs by spark-submit on the cluster of these tests, and what they leave on HDFS."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from confluent_kafka import Producer
from deltalake import DeltaTable

from recsys_lib.adapters.folders import file_system
from recsys_lib.adapters.jars import pyspark_home
from tests.cluster.cluster import Cluster
from tests.jobs.launch import CONF, ROOT, Ended, Job
from tests.jobs.launch import SMALL as MODEL

# One environment for all nodes, which are one machine: nothing has to be shipped but our code.
SMALL = {
    **CONF,
    "spark.pyspark.python": sys.executable,
    "spark.pyspark.driver.python": sys.executable,
    "spark.driver.memory": "1g",
    "spark.executor.memory": "700m",
    "spark.executor.cores": "1",
    "spark.cores.max": "2",
    "spark.executor.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
}
YARN = {
    "spark.executor.instances": "2",
    "spark.executor.memoryOverhead": "1500m",
    "spark.driver.memoryOverhead": "1200m",
    "spark.yarn.jars": f"local:{pyspark_home()}/jars/*",
    "spark.yarn.maxAppAttempts": "1",
    "spark.yarn.submit.file.replication": "1",
}


@dataclass(frozen=True)
class Submitter:
    """Submits jobs of this checkout to one kind of master."""

    cluster: Cluster
    wheel: Path
    folder: Path

    def yarn(self, name: str, *args: object, mode: str, **conf: str) -> Job:
        """The driver is a container of the cluster (mode cluster) or a child of ours (client)."""
        files = ",".join(str(ROOT / "conf" / name) for name in ("base.yaml", "cluster.yaml"))
        options = ["--master=yarn", f"--deploy-mode={mode}", f"--files={files}"]
        found = {**YARN, **{key.replace("_", "."): value for key, value in conf.items()}}
        config = "cluster.yaml" if mode == "cluster" else ROOT / "conf" / "cluster.yaml"
        env = {"HADOOP_CONF_DIR": str(self.cluster.hadoop_conf)}
        return self._job(name, options, found, ["--config", config, *args], env)

    def standalone(self, name: str, master: str, *args: object) -> Job:
        config = ["--config", ROOT / "conf" / "standalone.yaml"]
        return self._job(name, [f"--master={master}"], {}, [*config, *args], {})

    def local(self, name: str, *args: object) -> Job:
        config = ["--config", ROOT / "conf" / "local.yaml"]
        return self._job(name, ["--master=local[2]"], {}, [*config, *args], {})

    def said_by_driver(self) -> str:
        """Of the youngest application, where its driver is a container."""
        if not self.cluster.running().get("resourcemanager"):
            return ""
        app = self.cluster.applications()[0]["id"]
        found = sorted(self.cluster.containers.glob(f"nodemanager*/containers/{app}/*_000001/std*"))
        return "\n".join(file.read_text(errors="replace") for file in found)

    def _job(
        self,
        name: str,
        options: Sequence[str],
        conf: Mapping[str, str],
        args: Sequence[object],
        env: Mapping[str, str],
    ) -> Job:
        return Job(
            name,
            *(f"--set={key}={value}" for key, value in MODEL.items()),
            *args,
            small=False,
            log=self.folder / f"{name}-{len(list(self.folder.iterdir()))}",
            conf={**SMALL, **conf},
            options=[*options, f"--py-files={self.wheel}"],
            env={"PYTHONPATH": str(self.wheel), **env},
        )


def ended(job: Job, submitter: Submitter, seconds: float = 400) -> Ended:
    """Wait for the job. Fails where it did."""
    found = job.wait(seconds)
    driver = "" if found.code == 0 else submitter.said_by_driver()[-6000:]
    assert found.code == 0, f"{found.said[-3000:]}\n{driver}"
    return found


def build_wheel(folder: Path) -> Path:
    """As `make package` does, of this checkout."""
    asked = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*asked, "-w", str(folder), str(ROOT)], check=True, capture_output=True)
    return next(folder.glob("alluvium_recsys-*.whl")).rename(folder / "alluvium.zip")


def send(servers: str, topic: str, events: Iterable[Mapping[str, Any]]) -> None:
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 20})
    for event in events:
        producer.produce(topic, json.dumps(event).encode(), partition=0)
    assert producer.flush(60) == 0


def table(lake: str, name: str) -> pa.Table:
    file_system(lake)  # delta-rs knows hdfs:// by itself, Python's file systems do not
    return DeltaTable(f"{lake}/{name}").to_pyarrow_table()


def counts(lake: str, names: Iterable[str]) -> dict[str, int]:
    return {name: table(lake, name).num_rows for name in names}


def means(lake: str) -> dict[tuple[int, str, str], float]:
    """(window, scorer, metric) -> mean over users, from the table of the exams."""
    rows = table(lake, "metrics")
    numbers = [f.name for f in rows.schema if pa.types.is_floating(f.type)]
    found = rows.group_by(["window", "scorer"]).aggregate([(name, "mean") for name in numbers])
    return {
        (row["window"], row["scorer"], name): row[f"{name}_mean"]
        for row in found.to_pylist()
        for name in numbers
    }
