"""A cluster on one machine: services on free ports, in one folder, without Docker."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys_lib.adapters.jars import pyspark_home
from tests.cluster import hdfs, kafka, mariadb, mlflow, standalone, yarn
from tests.cluster.process import ClusterError, MissingError, Service, free_port

POM = Path(__file__).with_name("pom.xml")
PARTS = ("hdfs", "kafka", "mariadb", "yarn", "spark", "mlflow")
JARS = {"hdfs": "hadoop", "yarn": "hadoop", "kafka": "kafka"}
CONNECTORS = {"kafka": "spark-sql-kafka", "mariadb": "mariadb-java-client"}


@dataclass(frozen=True)
class Cluster:
    """`folder`/jars is kept and shared, `folder`/`name` lives from `up` to `down`."""

    folder: Path
    name: str = "run"
    datanodes: int = 2

    def missing(self, part: str) -> str | None:
        """Why `part` cannot run on this machine; None where it can."""
        if part == "mariadb":
            names = ("mariadbd", "mariadb-install-db", "mariadb")
            lacking = [name for name in names if mariadb.program(name) is None]
            told = f"no {', '.join(lacking)} on this machine: apt-get install mariadb-server"
            return told if lacking else None
        if part == "mlflow":
            return None
        if part in JARS and not self._jars(part).exists() and shutil.which("mvn") is None:
            return "Maven is missing, which brings its jars: apt-get install maven"
        if shutil.which("java") is None:
            return "Java is missing: apt-get install openjdk-17-jdk-headless"
        return None

    def unconnected(self, part: str) -> str | None:
        """Why Spark cannot speak to `part`; None where it can."""
        jar = CONNECTORS.get(part)
        if jar is None or any((pyspark_home() / "jars").glob(f"{jar}*.jar")):
            return None
        return f"Spark lacks {jar}: make setup brings it where Maven works"

    def up(self, parts: Sequence[str] = PARTS) -> None:
        """Start what is not running, and wait until all of it is healthy. Raises ClusterError,
        MissingError where the machine lacks something."""
        for part in parts:
            self._fetch(part)
        found = self._services(self._ports(), parts)
        try:
            for service in found:
                service.launch()
            for service in found:
                service.wait()
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """End every process that was started here, whoever started it, and forget their data."""
        ports = self._known_ports()
        if ports:
            for service in reversed(self._services(ports, PARTS)):
                service.stop(hard=True)
            yarn.end_containers(self._run)
        shutil.rmtree(self._run, ignore_errors=True)

    def service(self, name: str) -> Service:
        """One piece, to stop, start or restart it alone."""
        found = {service.name: service for service in self._services(self._known_ports(), PARTS)}
        if name not in found:
            raise ClusterError(f"no service {name!r}; there are {', '.join(found) or 'none'}")
        return found[name]

    def addresses(self) -> dict[str, str]:
        ports = self._known_ports()
        known = {
            "hdfs": hdfs.address,
            "kafka": kafka.address,
            "mariadb": mariadb.address,
            "yarn": yarn.address,
            "spark": standalone.address,
            "mlflow": mlflow.address,
        }
        return {part: of(ports) for part, of in known.items()} if ports else {}

    def running(self) -> dict[str, int | None]:
        """The process of each service, None where it does not live."""
        return {s.name: s.pid() for s in self._services(self._known_ports(), PARTS)}

    def sql(self, text: str, database: str = mariadb.DATABASE) -> str:
        said = mariadb.sql(self._run / "mariadb", text, database)
        if said is None:
            raise ClusterError(f"MariaDB refused: {text}")
        return said

    @property
    def hadoop_conf(self) -> Path:
        """HADOOP_CONF_DIR for what is submitted to YARN."""
        return yarn.client_conf(self._run)

    @property
    def containers(self) -> Path:
        """Folder of the NodeManagers, with what YARN's containers have said."""
        return self._run

    def applications(self) -> list[dict[str, Any]]:
        """YARN's, youngest first."""
        return yarn.applications(self._known_ports())

    @property
    def _run(self) -> Path:
        return self.folder / self.name

    def _jars(self, part: str) -> Path:
        return self.folder / "jars" / JARS[part]

    def _services(self, ports: dict[str, int], parts: Sequence[str]) -> list[Service]:
        if not ports:
            return []
        made = {
            "hdfs": lambda: hdfs.services(self._run, self._jars("hdfs"), ports, self.datanodes),
            "kafka": lambda: kafka.services(self._run, self._jars("kafka"), ports),
            "mariadb": lambda: mariadb.services(self._run, ports),
            "yarn": lambda: yarn.services(self._run, self._jars("yarn"), ports, self.datanodes),
            "spark": lambda: standalone.services(self._run, ports),
            "mlflow": lambda: mlflow.services(self._run, ports),
        }
        return [service for part in parts for service in made[part]()]

    def _known_ports(self) -> dict[str, int]:
        file = self._run / "ports.json"
        return dict(json.loads(file.read_text())) if file.exists() else {}

    def _ports(self) -> dict[str, int]:
        """Chosen once, so that a piece that is restarted comes back where it was."""
        known = self._known_ports()
        if not known:
            names = [*hdfs.ports(self.datanodes), *kafka.PORTS, *mariadb.PORTS]
            names = [*names, *yarn.ports(), *standalone.PORTS, *mlflow.PORTS]
            known = {name: free_port() for name in names}
            self._run.mkdir(parents=True, exist_ok=True)
            (self._run / "ports.json").write_text(json.dumps(known))
        return known

    def _fetch(self, part: str) -> None:
        reason = self.missing(part)
        if reason is not None:
            raise MissingError(f"{part}: {reason}")
        if part not in JARS or self._jars(part).exists():
            return
        beside = self._jars(part).with_suffix(".partial")
        command = ["mvn", "-q", "-B", "-f", str(POM), f"-P{JARS[part]}"]
        command += ["dependency:copy-dependencies", f"-DoutputDirectory={beside}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise MissingError(f"{part}: Maven did not bring its jars: {done.stdout[:500]}")
        beside.rename(self._jars(part))
