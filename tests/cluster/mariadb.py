"""MariaDB, which speaks MySQL: Debian's server on a port and in a folder of its own."""

from __future__ import annotations

import getpass
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.cluster.process import ClusterError, Service

PORTS = ["mariadb"]
DATABASE = USER = PASSWORD = "alluvium"
# By the host's name too, else the server's anonymous user of localhost is taken for ours.
SQL = f"CREATE DATABASE IF NOT EXISTS {DATABASE} CHARACTER SET utf8mb4; " + "".join(
    f"CREATE USER IF NOT EXISTS '{USER}'@'{host}' IDENTIFIED BY '{PASSWORD}'; "
    f"GRANT ALL ON *.* TO '{USER}'@'{host}'; "
    for host in ("%", "localhost")
)


def program(name: str) -> str | None:
    """Where it is; servers are not on everybody's path."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def address(ports: Mapping[str, int]) -> str:
    return f"jdbc:mariadb://localhost:{ports['mariadb']}/{DATABASE}"


def services(folder: Path, ports: Mapping[str, int]) -> list[Service]:
    home = folder / "mariadb"
    # A socket's path may hold 107 characters, so it is named from the folder it is in.
    place = [f"--datadir={home}/data", f"--user={getpass.getuser()}"]
    command = [
        program("mariadbd") or "mariadbd",
        "--no-defaults",
        *place,
        "--bind-address=127.0.0.1",
        f"--port={ports['mariadb']}",
        "--socket=socket",
        f"--pid-file={home}/pid",
        "--innodb-buffer-pool-size=32M",
        "--innodb-flush-log-at-trx-commit=2",
        "--default-time-zone=+00:00",
    ]

    def prepare(node: Path) -> None:
        install = program("mariadb-install-db") or "mariadb-install-db"
        asked = [install, "--no-defaults", *place, "--auth-root-authentication-method=normal"]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ClusterError(f"MariaDB's folder cannot be made: {done.stdout[-1500:]}")

    return [Service("mariadb", home, command, lambda: sql(home, SQL) is not None, prepare)]


def sql(home: Path, text: str, database: str = "mysql") -> str | None:
    """Say `text` to the server as root; its answer, None where it does not answer."""
    client = program("mariadb") or "mariadb"
    asked = [client, "--no-defaults", "--socket=data/socket", "--user=root", "-N", "-B", database]
    done = subprocess.run(
        [*asked, "-e", text], cwd=home, capture_output=True, text=True, check=False
    )
    return done.stdout if done.returncode == 0 else None
