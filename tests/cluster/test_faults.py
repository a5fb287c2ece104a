"""What a cluster loses while the loop runs on it: the right model, or a clear error and no harm."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from recsys_lib.adapters.places import place
from recsys_lib.types import Place
from tests.cluster import hdfs as hdfs_service
from tests.cluster.cluster import Cluster
from tests.cluster.submit import Submitter, build_wheel, counts, ended, send, table
from tests.cluster.test_whole_loop import Shop
from tests.jobs import shop
from tests.jobs.launch import Job

pytestmark = pytest.mark.cluster

RANK = "recsys_lib.adapters.ranks.child"
EXECUTOR = "CoarseGrainedExecutorBackend"


@pytest.fixture(scope="module")
def history(
    cluster: Cluster,
    hdfs: str,
    kafka: str,
    mlflow: str,
    yarn: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Shop:
    """A topic with a history alone, so that a turn lands it and learns one model."""
    folder = tmp_path_factory.mktemp("faults")
    send(kafka, "history", shop.events(windows=5))
    text = shop.write_mapping(folder / "mapping.yaml").read_text()
    place(f"{hdfs}/conf").mkdir()
    place(f"{hdfs}/conf/history.yaml").write_text(text)
    submitter = Submitter(cluster, build_wheel(folder), folder)
    return Shop(submitter, kafka, hdfs, mlflow, f"{hdfs}/conf/history.yaml")


def turn(history: Shop, name: str) -> tuple[str, list[object]]:
    """Long enough in its training for a fault to hit it, with a checkpoint every second."""
    more = {
        "kafka.topic": "history",
        "train.min_steps": 1500,
        "train.min_steps_epochs": 1e9,
        "train.min_steps_targets": 1e9,
        "ranks.checkpoint_seconds": 1,
    }
    return history.remote(name, **more, **{"ranks.wait_seconds": 20, "ranks.stall_seconds": 20})


def processes(word: str, app: str) -> list[int]:
    """Of a YARN application, by a word of the command line."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            command = (folder / "cmdline").read_text().split("\0") if folder.name.isdigit() else []
            mine = command and any(word in part for part in command) and "bash" not in command[0]
            if mine and app.removeprefix("application") in (folder / "environ").read_text():
                found.append(int(folder.name))
        except OSError:
            continue
    return sorted(found)


def until(happens: Callable[[], object], job: Job, seconds: float = 200) -> None:
    end = time.monotonic() + seconds
    while not happens():
        assert job.process.poll() is None, "the job ended before"
        assert time.monotonic() < end
        time.sleep(0.3)


def learning(history: Shop, args: list[object]) -> tuple[Job, str]:
    """A job whose ranks have checkpointed, and its application."""
    cluster = history.submitter.cluster
    known = {app["id"] for app in cluster.applications()}
    job = history.submitter.yarn("turn", *args, mode="cluster")
    until(lambda: {app["id"] for app in cluster.applications()} - known, job)
    app = cluster.applications()[0]["id"]
    out = str(args[args.index("--out") + 1])
    until(lambda: len(processes(RANK, app)) == 2 and checkpoint(out).exists(), job)
    return job, str(app)


def came_out_right(history: Shop, out: str) -> None:
    """One model, and every event once, whatever was repeated on the way."""
    sent = len(shop.events(windows=5))
    keys = table(f"{out}/lake", "silver").column("key").to_pylist()
    assert counts(f"{out}/lake", ["bronze", "silver"]) == {"bronze": sent, "silver": sent}
    assert len(set(keys)) == sent
    assert f"learned as models:/{out.rsplit('/', 1)[-1]}/1" in history.submitter.said_by_driver()
    assert not checkpoint(out).exists()


def checkpoint(out: str) -> Place:
    return place(out) / "models" / "window-3.checkpoint"


def ranks_log() -> str:
    """While it is being written: it lies in the driver's own folder until the ranks have ended."""
    files = Path(tempfile.gettempdir()).glob("alluvium-*/ranks.log")
    return "".join(file.read_text() for file in files if file.exists())


def test_a_turn_lives_through_what_it_can_do_without(history: Shop) -> None:
    """A rank, an executor, one of two DataNodes, and for a minute MLflow."""
    out, args = turn(history, "losses")
    cluster = history.submitter.cluster
    job, app = learning(history, args)
    os.kill(processes(RANK, app)[0], signal.SIGKILL)
    until(lambda: "killed by SIGKILL" in ranks_log(), job)
    until(lambda: len(processes(RANK, app)) == 2, job)
    cluster.service("datanode2").stop(hard=True)
    cluster.service("mlflow").stop(hard=True)
    back = threading.Timer(60, cluster.service("mlflow").start)
    back.start()
    os.kill(processes(EXECUTOR, app)[0], signal.SIGKILL)
    try:
        ended(job, history.submitter)
    finally:
        back.join()
        cluster.service("datanode2").start()
    assert (place(out) / "ranks.log").read_text().count("lost:") >= 2
    came_out_right(history, out)


def test_what_ends_a_turn_is_an_error_and_the_same_command_goes_on(history: Shop) -> None:
    """A folder that is full, then a driver that is killed; at last a node that is gone for good,
    which ends nothing."""
    out, args = turn(history, "ends")
    cluster = history.submitter.cluster
    job = history.submitter.yarn("turn", *args, mode="cluster")
    until(lambda: (place(out) / "lake" / "silver").exists(), job)
    admin(history, "-setSpaceQuota", "200m", out)  # less than a block and its replica
    assert job.wait(300).code != 0
    assert "quota of /runs/ends is exceeded" in history.submitter.said_by_driver()
    admin(history, "-clrSpaceQuota", out)

    job, app = learning(history, args)
    for pid in processes("ApplicationMaster", app):
        os.kill(pid, signal.SIGKILL)
    assert job.wait(200).code != 0
    end = time.monotonic() + 60
    while (left := processes(RANK, app)) and time.monotonic() < end:
        time.sleep(0.5)
    assert left == [], "ranks end with their driver"
    assert checkpoint(out).exists()

    job, app = learning(history, args)
    driver = next(cluster.containers.glob(f"nodemanager*/containers/{app}/*_000001"))
    other = {"nodemanager1": "nodemanager2", "nodemanager2": "nodemanager1"}[driver.parts[-4]]
    until(lambda: len(processes(RANK, app)) == 2, job)
    for pid in processes(f"/{other}/", app):  # its node is gone with all that ran there
        os.kill(pid, signal.SIGKILL)
    cluster.service(other).stop(hard=True)
    try:
        ended(job, history.submitter)
    finally:
        cluster.service(other).start()
    came_out_right(history, out)


def admin(history: Shop, *args: str) -> None:
    cluster = history.submitter.cluster
    done = subprocess.run(
        hdfs_service.admin(cluster.hadoop_conf, cluster.folder / "jars" / "hadoop", *args),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
