"""HDFS: one NameNode and a few DataNodes."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from tests.cluster.process import ClusterError, Service, java

NAMENODE = "org.apache.hadoop.hdfs.server.namenode.NameNode"
DATANODE = "org.apache.hadoop.hdfs.server.datanode.DataNode"


def ports(datanodes: int) -> list[str]:
    """Names of the ports these services need."""
    nodes = [
        f"datanode{n}.{part}" for n in range(1, datanodes + 1) for part in ("data", "http", "ipc")
    ]
    return ["namenode", "namenode.http", *nodes]


def address(ports: Mapping[str, int]) -> str:
    return f"hdfs://localhost:{ports['namenode']}"


def services(folder: Path, jars: Path, ports: Mapping[str, int], datanodes: int) -> list[Service]:
    """NameNode first; each DataNode is healthy once the NameNode counts it as living."""
    home = folder / "namenode"
    named = {
        "dfs.namenode.name.dir": f"file://{home}/data",
        "dfs.namenode.rpc-address": f"localhost:{ports['namenode']}",
        "dfs.namenode.http-address": f"localhost:{ports['namenode.http']}",
    }
    common = sites(ports, datanodes)

    def command(node: Path, main: str) -> list[str]:
        return java("256m", [node / "conf", jars / "*"], main)

    def format_disk(node: Path) -> None:
        write(node / "conf", {**common, **named})
        asked = [*command(node, NAMENODE), "-format", "-force", "-nonInteractive"]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ClusterError(f"the NameNode cannot be formatted: {done.stderr[-1500:]}")

    def status() -> dict[str, int]:
        query = "jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState"
        url = f"http://localhost:{ports['namenode.http']}/{query}"
        with urllib.request.urlopen(url, timeout=2) as answer:
            return dict(json.load(answer)["beans"][0])

    made = [
        Service(
            "namenode", home, command(home, NAMENODE), lambda: "FSState" in status(), format_disk
        )
    ]
    for number in range(1, datanodes + 1):
        name = f"datanode{number}"
        node = folder / name
        mine = _datanode(name, node, ports)

        def prepare(node: Path, mine: dict[str, str] = mine) -> None:
            write(node / "conf", {**common, **mine})

        def counted(number: int = number, name: str = name) -> bool:
            # Its own page, and not the count alone: a node that was just killed still counts.
            with urllib.request.urlopen(f"http://localhost:{ports[f'{name}.http']}/jmx", timeout=2):
                return status()["NumLiveDataNodes"] >= number

        made = [*made, Service(name, node, command(node, DATANODE), counted, prepare)]
    return made


def admin(conf: Path, jars: Path, *args: str) -> list[str]:
    """The command of an administrator, such as -setSpaceQuota 1g /folder."""
    return [*java("128m", [conf, jars / "*"], "org.apache.hadoop.hdfs.tools.DFSAdmin"), *args]


def sites(ports: Mapping[str, int], datanodes: int) -> dict[str, str]:
    """What servers and clients of this HDFS must know."""
    return {
        "fs.defaultFS": address(ports),
        "dfs.replication": str(min(2, datanodes)),
        "dfs.permissions.enabled": "false",
        "dfs.heartbeat.interval": "1s",
        "dfs.namenode.heartbeat.recheck-interval": "1000",
        "dfs.namenode.safemode.extension": "0",
        "dfs.namenode.resource.du.reserved": "0",
        "dfs.namenode.datanode.registration.ip-hostname-check": "false",
        "dfs.client.use.datanode.hostname": "true",
        "dfs.datanode.du.reserved": "0",
    }


def _datanode(name: str, node: Path, ports: Mapping[str, int]) -> dict[str, str]:
    return {
        "dfs.datanode.data.dir": f"file://{node}/data",
        "dfs.datanode.hostname": "localhost",
        "dfs.datanode.address": f"127.0.0.1:{ports[f'{name}.data']}",
        "dfs.datanode.http.address": f"127.0.0.1:{ports[f'{name}.http']}",
        "dfs.datanode.ipc.address": f"127.0.0.1:{ports[f'{name}.ipc']}",
    }


def write(
    conf: Path, values: Mapping[str, str], files: Sequence[str] = ("core-site", "hdfs-site")
) -> None:
    """The same properties under each name: every server takes those that it knows."""
    conf.mkdir(parents=True, exist_ok=True)
    lines = [
        f"<property><name>{name}</name><value>{escape(value)}</value></property>"
        for name, value in values.items()
    ]
    text = "\n".join(["<configuration>", *lines, "</configuration>", ""])
    for name in files:
        (conf / f"{name}.xml").write_text(text)
