"""Kafka: one broker that is its own controller (KRaft)."""

from __future__ import annotations

import socket
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.cluster.process import ClusterError, Service, java

PORTS = ["kafka", "kafka.controller"]


def address(ports: Mapping[str, int]) -> str:
    return f"localhost:{ports['kafka']}"


def services(folder: Path, jars: Path, ports: Mapping[str, int]) -> list[Service]:
    home = folder / "kafka"
    conf = home / "server.properties"

    def prepare(node: Path) -> None:
        conf.write_text("".join(f"{key}={value}\n" for key, value in _server(node, ports).items()))
        tool = java("256m", [jars / "*"], "kafka.tools.StorageTool")
        asked = [*tool, "format", "-t", "4L6g3nShT-eMCtK--X86sw", "-c", str(conf)]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ClusterError(f"Kafka's folder cannot be formatted: {done.stderr[-1500:]}")

    command = [*java("320m", [jars / "*"], "kafka.Kafka"), str(conf)]
    return [Service("kafka", home, command, lambda: _speaks(ports["kafka"]), prepare)]


def _server(node: Path, ports: Mapping[str, int]) -> dict[str, str]:
    broker, controller = f"localhost:{ports['kafka']}", f"localhost:{ports['kafka.controller']}"
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{controller}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{broker},CONTROLLER://{controller}",
        "advertised.listeners": f"PLAINTEXT://{broker}",
        "log.dirs": f"{node}/data",
        "num.partitions": "2",
        "offsets.topic.num.partitions": "1",
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.num.partitions": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
    }


def _speaks(port: int) -> bool:
    """Whether the broker answers the request for the versions it speaks."""
    request = struct.pack(">hhih", 18, 0, 1, -1)
    with socket.create_connection(("localhost", port), timeout=2) as broker:
        broker.settimeout(2)
        broker.sendall(struct.pack(">i", len(request)) + request)
        answer = broker.recv(10)
    return len(answer) == 10 and struct.unpack(">iih", answer)[1:] == (1, 0)
