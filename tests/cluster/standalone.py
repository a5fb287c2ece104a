"""Spark's own cluster manager: one master and two workers."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recsys_lib.adapters.jars import pyspark_home
from tests.cluster.process import Service

WORKERS = 2
PORTS = ["spark", "spark.http"] + [
    f"worker{n}.{part}" for n in range(1, WORKERS + 1) for part in ("rpc", "http")
]


def address(ports: Mapping[str, int]) -> str:
    return f"spark://localhost:{ports['spark']}"


def services(folder: Path, ports: Mapping[str, int]) -> list[Service]:
    """Master first; a worker is healthy once the master counts it as living."""
    home = pyspark_home()
    # The servers of a test live for minutes, so little is compiled for them.
    small = {"SPARK_DAEMON_JAVA_OPTS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"}
    env = {"SPARK_HOME": str(home), "SPARK_DAEMON_MEMORY": "256m", **small}

    def service(name: str, main: str, args: list[str], healthy: Any) -> Service:
        log = {"ALLUVIUM_SPARK_LOG": str(folder / name / "spark.log")}
        command = [str(home / "bin" / "spark-class"), f"org.apache.spark.deploy.{main}", *args]
        return Service(name, folder / name, command, healthy, env={**env, **log})

    def place(name: str) -> list[str]:
        rpc, http = (name, f"{name}.http") if name == "spark" else (f"{name}.rpc", f"{name}.http")
        return ["--host", "localhost", "--port", str(ports[rpc]), "--webui-port", str(ports[http])]

    def status() -> dict[str, Any]:
        url = f"http://localhost:{ports['spark.http']}/json/"
        with urllib.request.urlopen(url, timeout=2) as answer:
            return dict(json.load(answer))

    def lives() -> bool:
        return bool(status()["status"] == "ALIVE")

    made = [service("spark", "master.Master", place("spark"), lives)]
    for number in range(1, WORKERS + 1):
        name = f"worker{number}"
        own = ["--cores", "2", "--memory", "3g", "--work-dir", str(folder / name / "work")]

        def counted(number: int = number, name: str = name) -> bool:
            with urllib.request.urlopen(f"http://localhost:{ports[f'{name}.http']}", timeout=2):
                return bool(status()["aliveworkers"] >= number)

        args = [*place(name), *own, address(ports)]
        made = [*made, service(name, "worker.Worker", args, counted)]
    return made
