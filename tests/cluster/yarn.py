"""YARN: one ResourceManager and two NodeManagers, with HDFS for their files."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recsys_lib.adapters.jars import pyspark_home
from tests.cluster import hdfs
from tests.cluster.process import Service, java

MANAGER = "org.apache.hadoop.yarn.server.resourcemanager.ResourceManager"
NODE = "org.apache.hadoop.yarn.server.nodemanager.NodeManager"
NODES = 2
NODE_MIB = 5120
NODE_CORES = 4
# The minicluster's jars have no log4j 2, which their own code now calls; Spark's have.
BORROWED = ("log4j-api", "log4j-core", "log4j-1.2-api", "log4j-slf4j2-impl", "slf4j-api")
PARTS = ("tracker", "scheduler", "admin", "http", "rpc")


def ports() -> list[str]:
    """Names of the ports these services need."""
    nodes = [
        f"nodemanager{n}.{part}" for n in range(1, NODES + 1) for part in ("rpc", "local", "http")
    ]
    return [*(f"yarn.{part}" for part in PARTS), *nodes]


def address(ports: Mapping[str, int]) -> str:
    return f"http://localhost:{ports['yarn.http']}"


def client_conf(folder: Path) -> Path:
    """What HADOOP_CONF_DIR must name for spark-submit to find both HDFS and YARN."""
    return folder / "resourcemanager" / "conf"


def services(folder: Path, jars: Path, ports: Mapping[str, int], datanodes: int) -> list[Service]:
    """ResourceManager first; a NodeManager is healthy once it is counted as living."""
    sites = {**hdfs.sites(ports, datanodes), **_sites(ports)}
    borrowed = [next((pyspark_home() / "jars").glob(f"{name}-2.*.jar")) for name in BORROWED]

    def service(name: str, main: str, mine: Mapping[str, str], healthy: Any) -> Service:
        home = folder / name
        command = java("256m", [home / "conf", *borrowed, jars / "*"], main)

        def prepare(node: Path) -> None:
            files = ("core-site", "hdfs-site", "yarn-site", "capacity-scheduler")
            hdfs.write(node / "conf", {**sites, **mine}, files)

        # Containers are started by the Java that their environment names.
        env = {"JAVA_HOME": str(Path(command[0]).resolve().parents[1])}
        return Service(name, home, command, healthy, prepare, env)

    def manager() -> bool:
        return bool(_ask(ports["yarn.http"], "cluster/info")["clusterInfo"]["state"] == "STARTED")

    made = [service("resourcemanager", MANAGER, {}, manager)]
    for number in range(1, NODES + 1):
        name = f"nodemanager{number}"

        def counted(number: int = number, name: str = name) -> bool:
            # Its own page too: a node that was just killed is counted for a while.
            _ask(ports[f"{name}.http"], "node/info")
            metrics = _ask(ports["yarn.http"], "cluster/metrics")["clusterMetrics"]
            return bool(metrics["activeNodes"] >= number)

        made = [*made, service(name, NODE, _node(folder / name, name, ports), counted)]
    return made


def applications(ports: Mapping[str, int]) -> list[dict[str, Any]]:
    """What the ResourceManager knows of every application, youngest first."""
    found = (_ask(ports["yarn.http"], "cluster/apps")["apps"] or {}).get("app", [])
    return sorted(found, key=lambda app: -int(app["startedTime"]))


def end_containers(folder: Path) -> None:
    """What NodeManagers that were killed have left running: it names their folder."""
    ours = f"{folder}/nodemanager".encode()
    for process in Path("/proc").iterdir():
        try:
            told = (process / "environ").read_bytes() if process.name.isdigit() else b""
            if ours in told:
                os.kill(int(process.name), signal.SIGKILL)
        except OSError:  # it has ended, or is not ours
            continue


def _ask(port: int, path: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://localhost:{port}/ws/v1/{path}", timeout=2) as answer:
        return dict(json.load(answer))


def _sites(ports: Mapping[str, int]) -> dict[str, str]:
    manager = {"tracker": "resource-tracker.address", "scheduler": "scheduler.address"}
    manager |= {"admin": "admin.address", "http": "webapp.address", "rpc": "address"}
    places = {
        f"yarn.resourcemanager.{key}": f"localhost:{ports[f'yarn.{part}']}"
        for part, key in manager.items()
    }
    return {
        **places,
        "yarn.resourcemanager.hostname": "localhost",
        "yarn.scheduler.capacity.root.queues": "default",
        "yarn.scheduler.capacity.root.default.capacity": "100",
        "yarn.scheduler.capacity.maximum-am-resource-percent": "1.0",
        "yarn.scheduler.capacity.root.default.maximum-am-resource-percent": "1.0",
        "yarn.scheduler.minimum-allocation-mb": "256",
        "yarn.scheduler.maximum-allocation-mb": str(NODE_MIB),
        "yarn.resourcemanager.nodemanagers.heartbeat-interval-ms": "300",
        "yarn.nm.liveness-monitor.expiry-interval-ms": "10000",
        "yarn.nodemanager.pmem-check-enabled": "false",
        "yarn.nodemanager.vmem-check-enabled": "false",
        "yarn.nodemanager.disk-health-checker.max-disk-utilization-per-disk-percentage": "99",
        "yarn.nodemanager.env-whitelist": "JAVA_HOME,PATH,LANG,HADOOP_CONF_DIR",
        "yarn.nodemanager.container-monitor.enabled": "false",
    }


def _node(home: Path, name: str, ports: Mapping[str, int]) -> dict[str, str]:
    return {
        "yarn.nodemanager.hostname": "localhost",
        "yarn.nodemanager.address": f"localhost:{ports[f'{name}.rpc']}",
        "yarn.nodemanager.localizer.address": f"localhost:{ports[f'{name}.local']}",
        "yarn.nodemanager.webapp.address": f"localhost:{ports[f'{name}.http']}",
        "yarn.nodemanager.local-dirs": str(home / "local"),
        "yarn.nodemanager.log-dirs": str(home / "containers"),
        "yarn.nodemanager.resource.memory-mb": str(NODE_MIB),
        "yarn.nodemanager.resource.cpu-vcores": str(NODE_CORES),
    }
