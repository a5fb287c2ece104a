"""The cluster by hand: python -m tests.cluster up | down | status | restart NAME."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.cluster.cluster import PARTS, Cluster
from tests.cluster.process import ClusterError


def main() -> int:
    made = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    made.add_argument("do", choices=["up", "down", "status", "restart"])
    made.add_argument("name", nargs="?", help="the piece to restart, such as kafka or datanode1")
    made.add_argument("--folder", type=Path, default=Path("build/cluster"))
    args = made.parse_args()
    cluster = Cluster(args.folder.absolute())
    try:
        if args.do == "up":
            _up(cluster)
        elif args.do == "restart":
            cluster.service(args.name).stop()
            cluster.service(args.name).start()
        if args.do == "down":
            cluster.down()
        else:
            _tell(cluster)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _up(cluster: Cluster) -> None:
    reasons = {part: cluster.missing(part) for part in PARTS}
    for part, reason in reasons.items():
        if reason:
            print(f"without {part}: {reason}")
    cluster.up([part for part, reason in reasons.items() if not reason])


def _tell(cluster: Cluster) -> None:
    for part, address in cluster.addresses().items():
        print(f"{part:10} {address}")
    for name, pid in cluster.running().items():
        print(f"{name:10} {f'process {pid}' if pid else 'not running'}")


if __name__ == "__main__":
    sys.exit(main())
