"""Nothing lost, nothing double: Kafka -> Delta on HDFS, under a job that is killed all the time."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.live import Live, text

pytestmark = pytest.mark.cluster

EVENTS = 200_000
KILLS = 20
TOPIC = "events"
SECONDS = 5.0  # a pass spends about so long on either
STEPS = ("landing from", "landing from", "cleaning")  # what the job's log says as it begins one


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
    blows = {2 * KILLS // 3: "datanode1", KILLS // 3: "kafka"}  # the last comes first
    began, killed, sent_slices, moments = time.monotonic(), 0, 0, list[str]()
    while killed < KILLS:
        if killed == sent_slices:
            live.send(kafka, TOPIC, next(slices))
            sent_slices += 1
        job = live.job("kafka", settings, "--every", 0.2)
        step, moment = rng.choice(STEPS), rng.uniform(0, SECONDS)
        fall = threading.Thread(target=_restart, args=(cluster, blows.get(killed), moment / 2))
        if job.kill_when(_after(live, step, moment, fall if killed in blows else None)):
            moments = [*moments, f"{step.split()[0]} + {moment:.1f} s"]
            killed += 1
        if fall.ident is not None:
            fall.join()
            blows.popitem()
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
            f"\n  seed {seed}: {len(sent.payloads):,} records sent, {killed} kills, broker and "
            f"DataNode restarted once, {seconds:.0f} s\n  killed at {', '.join(moments)}\n"
            f"  bronze {len(bronze):,}, silver {len(silver):,} of {len(sent.good):,} good "
            f"({sent.late:,} late), quarantine {len(quarantine):,}: {dict(rules)}"
        )
    assert not blows, "broker and DataNode must have fallen"
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


def _after(
    live: Live, step: str, seconds: float, blow: threading.Thread | None
) -> Callable[[], bool]:
    """True so long after the job said that it begins `step`."""
    log = live.folder / "out" / "alluvium.log"
    before = log.stat().st_size if log.exists() else 0
    since: list[float] = []

    def happens() -> bool:
        if not since:
            if log.exists() and step.encode() in log.read_bytes()[before:]:
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
