"""The whole loop on a cluster: Kafka to a model that recommends, by spark-submit, all on HDFS."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from recsys_lib.adapters.places import place
from tests.cluster.cluster import Cluster
from tests.cluster.submit import Submitter, build_wheel, counts, ended, means, send
from tests.jobs import shop

pytestmark = pytest.mark.cluster

TABLES = ("bronze", "silver", "quarantine", "sequences", "histories", "vocabulary", "item_counts")
SETS = {
    "spark.shuffle_partitions": 2,
    "spark.conf": '{spark.databricks.delta.snapshotPartitions: "2"}',
    "train.ranks": 2,
    "train.threads_per_rank": 1,
    "gate.min_gain": -1.0,
}


@dataclass(frozen=True)
class Shop:
    """A topic with a history of four windows and two increments, and what its fields mean."""

    submitter: Submitter
    servers: str
    hdfs: str
    tracking: str
    mapping: str

    def args(self, name: str, out: str, **more: object) -> list[object]:
        sets = {**SETS, "kafka.servers": self.servers, "kafka.topic": "shop", "run.name": name}
        sets |= {"tracking.experiment": name, **more}
        told: list[object] = ["--source", "kafka", "--mapping", self.mapping, "--out", out]
        return [*told, *(f"--set={key}={value}" for key, value in sets.items())]

    def remote(self, name: str, **more: object) -> tuple[str, list[object]]:
        """A run folder on HDFS, and the arguments for a turn in it."""
        out = f"{self.hdfs}/runs/{name}"
        return out, self.args(name, out, **{"tracking.uri": self.tracking, **more})


@pytest.fixture(scope="module")
def live_shop(
    cluster: Cluster,
    hdfs: str,
    kafka: str,
    mlflow: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Shop:
    folder = tmp_path_factory.mktemp("cluster")
    send(kafka, "shop", [*shop.events(windows=7), shop.event("bad", "u1", "", 1.5)])
    text = shop.write_mapping(folder / "mapping.yaml").read_text()
    place(f"{hdfs}/conf").mkdir()
    place(f"{hdfs}/conf/mapping.yaml").write_text(text)
    submitter = Submitter(cluster, build_wheel(folder), folder)
    return Shop(submitter, kafka, hdfs, mlflow, f"{hdfs}/conf/mapping.yaml")


@pytest.fixture(scope="module")
def on_one_machine(live_shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The lake of the same loop in a local session, on a local disk."""
    out = tmp_path_factory.mktemp("local") / "out"
    submitter = live_shop.submitter
    said = ended(submitter.local("turn", *live_shop.args("local", str(out))), submitter).out
    assert said.count("learned as") == 3
    return str(out / "lake")


def same(lake: str, wanted: str) -> None:
    """Equal tables; metrics as near as sums in another order come out."""
    assert counts(lake, TABLES) == counts(wanted, TABLES)
    found, expected = means(lake), means(wanted)
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, abs=0.03)
    baselines = {key: value for key, value in expected.items() if not key[1].startswith("candi")}
    plain = {k: v for k, v in baselines.items() if k[1] in ("popularity", "personal_frequency")}
    assert plain
    assert {key: found[key] for key in plain} == pytest.approx(plain)


def test_on_yarn_with_the_driver_in_the_cluster(
    live_shop: Shop, yarn: str, on_one_machine: str
) -> None:
    out, args = live_shop.remote("yarn")
    job = live_shop.submitter.yarn("turn", *args, mode="cluster")
    ended(job, live_shop.submitter)
    said = live_shop.submitter.said_by_driver()
    assert "window 3: first, learned as models:/yarn/1" in said
    assert "window 5: promoted, learned as models:/yarn/3" in said
    same(f"{out}/lake", on_one_machine)
    again = live_shop.submitter.yarn("turn", *args, mode="client")
    assert "no window to learn" in ended(again, live_shop.submitter).out


def test_on_spark_standalone(live_shop: Shop, standalone: str, on_one_machine: str) -> None:
    out, args = live_shop.remote("standalone")
    said = ended(live_shop.submitter.standalone("turn", standalone, *args), live_shop.submitter).out
    assert "window 3: first, learned as models:/standalone/1" in said
    # The log is in it too: it goes to the terminal where the run folder is not on this machine.
    assert len(re.findall(r"^window \d: .*learned as", said, re.MULTILINE)) == 3
    same(f"{out}/lake", on_one_machine)
