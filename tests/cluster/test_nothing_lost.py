"""Nothing lost, nothing double: Kafka -> Delta on HDFS, under a job that is killed all the time."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.live import Live, text

pytestmark = pytest.mark.cluster

EVENTS = 200_000
KILLS = 20
TOPIC = "events"
SECONDS = 9.0  # a pass takes about so long, from its first record to the end of its cleaning


@dataclass(frozen=True)
class Sent:
    """What goes to Kafka, in order: good events, their copies, late ones, and bad ones."""

    payloads: list[str]
    good: set[str]
    bad: Counter[str]
    copies: int
    late: int


def made(rng: random.Random) -> Sent:
    """5 % copies, 2 % malformed, 1 % late."""
    copies, bad, late = EVENTS * 5 // 100, EVENTS * 2 // 100, EVENTS // 100
    good = EVENTS - copies - bad
    ids = [f"e{number}" for number in range(good)]
    late_ids = set(rng.sample(ids, late))
    events = {n: _good(rng, n, late=n in late_ids) for n in ids}
    broken = [_bad(rng, f"b{number}") for number in range(bad)]
    again = [events[n] for n in rng.sample(ids, copies)]
    payloads = [*events.values(), *broken, *again]
    rng.shuffle(payloads)
    return Sent(payloads, set(ids), Counter(broken), copies, late)


def _good(rng: random.Random, number: str, *, late: bool) -> str:
    day = rng.randrange(1, 8) if late else rng.randrange(22, 29)
    facts = {"visitor": f"u{rng.randrange(5000)}", "product": f"i{rng.randrange(900)}"}
    return text(number, **facts, at=f"2024-01-{day:02d} 10:00:00", price=rng.randrange(1, 99))


def _bad(rng: random.Random, number: str) -> str:
    return rng.choice(
        [
            text(number)[:-9],
            f"not JSON at all: {number}",
            text(number, visitor=None),
            text(number, product="  "),
            text(number, at="soon"),
            text(number, price="dear"),
        ]
    )


@pytest.fixture(scope="module")
def seed() -> int:
    told = os.environ.get("SEED")
    return int(told) if told else random.SystemRandom().randrange(10**6)


def test_every_good_event_is_in_silver_once_and_every_bad_one_in_quarantine(
    live: Live, cluster: Cluster, kafka: str, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(seed)
    sent = made(rng)
    live.mapping()
    settings = {
        "kafka.servers": kafka,
        "kafka.topic": TOPIC,
        "kafka.max_offsets_per_batch": 10_000,
    }
    slices = _slices(sent.payloads, KILLS + 1)
    blows = {KILLS // 3: "kafka", 2 * KILLS // 3: "datanode1"}
    began, killed, moments = time.monotonic(), 0, []
    while killed < KILLS:
        for part in [next(slices)] if killed == len(moments) else []:
            live.send(kafka, TOPIC, part)
        job = live.job("kafka", settings, "--every", 0.2)
        moment = rng.uniform(0, SECONDS)
        blow = blows.get(killed)
        fall = threading.Thread(target=_restart, args=(cluster, blow, moment / 2))
        if job.kill_when(_after(live, moment, fall if blow else None)):
            killed, moments = killed + 1, [*moments, round(moment, 1)]
        if fall.ident is not None:
            fall.join()
    for part in slices:
        live.send(kafka, TOPIC, part)
    live.land_alone("kafka", {**settings, "kafka.max_offsets_per_batch": 50_000})
    seconds = time.monotonic() - began

    bronze = [(r["partition"], r["offset"]) for r in live.rows("bronze", "partition", "offset")]
    silver = [row["key"] for row in live.rows("silver", "key")]
    quarantine = live.rows("quarantine", "rule", "payload")
    rules = Counter(row["rule"] for row in quarantine)
    with capsys.disabled():
        print(
            f"\n  seed {seed}: {len(sent.payloads):,} records sent, {killed} kills at {moments} s, "
            f"broker and DataNode restarted once, {seconds:.0f} s\n"
            f"  bronze {len(bronze):,}, silver {len(silver):,} of {len(sent.good):,} good "
            f"({sent.late:,} late), quarantine {len(quarantine):,}: {dict(rules)}"
        )
    assert len(bronze) == len(set(bronze)) == EVENTS
    assert len(silver) == len(sent.good)
    assert set(silver) == {hashlib.md5(number.encode()).hexdigest() for number in sent.good}
    assert rules.pop("duplicate") == sent.copies
    turned = Counter(row["payload"] for row in quarantine if row["rule"] != "duplicate")
    assert turned == sent.bad


def _slices(payloads: list[str], count: int) -> Iterator[list[str]]:
    size = -(-len(payloads) // count)
    for start in range(0, len(payloads), size):
        yield payloads[start : start + size]


def _after(live: Live, seconds: float, blow: threading.Thread | None) -> object:
    """True so long after the job said that it lands."""
    log = live.folder / "out" / "alluvium.log"
    before = log.stat().st_size if log.exists() else 0
    since: list[float] = []

    def happens() -> bool:
        if not since:
            if log.exists() and b"landing from" in log.read_bytes()[before:]:
                since.append(time.monotonic())
                if blow is not None:
                    blow.start()
            return False
        return time.monotonic() - since[0] >= seconds

    return happens


def _restart(cluster: Cluster, name: str, after: float) -> None:
    time.sleep(after)
    service = cluster.service(name)
    service.stop(hard=True)
    service.start()
