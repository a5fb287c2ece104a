from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from recsys_lib.adapters.alone import alone
from recsys_lib.errors import LakeError

HOLD = """
import sys, time
from recsys_lib.adapters.alone import alone
with alone(sys.argv[1], "land", 0):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(params=["folder", "hdfs"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    path = str(tmp_path / "lake")
    return path if request.param == "folder" else f"hdfs://nowhere:1{path}"


def holder(root: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, root], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


def test_a_second_job_is_told_who_holds_the_lake(root: str) -> None:
    process = holder(root)
    try:
        wanted = rf"reingest must have .*, but land \(process {process.pid}\) changes it"
        with pytest.raises(LakeError, match=wanted), alone(root, "reingest", 0.5):
            pass
    finally:
        process.kill()
        process.wait()


def test_the_lake_of_a_killed_job_is_free_at_once(root: str) -> None:
    process = holder(root)
    process.kill()
    process.wait()
    with alone(root, "land", 0):
        pass


def test_a_job_waits_until_the_other_lets_go(root: str) -> None:
    held, free = threading.Event(), threading.Event()

    def first() -> None:
        with alone(root, "land", 0):
            held.set()
            free.wait(10)

    thread = threading.Thread(target=first)
    thread.start()
    assert held.wait(10)
    threading.Timer(0.5, free.set).start()
    began = time.monotonic()
    with alone(root, "reingest", 30):
        assert time.monotonic() - began > 0.3
    thread.join()
