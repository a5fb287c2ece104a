"""Hostile input at parser, landing and collector: `make fuzz [SECONDS=600] [SEED=n]`.

Each round has a seed of its own. What fails is kept in build/fuzz with how to repeat it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections import Counter
from pathlib import Path
from random import SystemRandom

from recsys_lib.adapters.spark import spark_session
from recsys_lib.settings import SparkSettings
from tests.fuzz.collector import hostile_requests
from tests.fuzz.landing import hostile_batches
from tests.fuzz.parser import hostile_round
from tests.serve.service import ROOT

FOLDER = ROOT / "build" / "fuzz"
ROUNDS = {"parser": hostile_round, "landing": hostile_batches}
COLLECTOR_SHARE = 0.3
MAX_FAULTS = 3


def main() -> int:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--seconds", type=float, default=600)
    made.add_argument("--seed", type=int, help="of the first round; default: a new one")
    made.add_argument("--only", choices=("collector", *ROUNDS))
    args = made.parse_args()
    seed = SystemRandom().randrange(2**31) if args.seed is None else args.seed
    FOLDER.mkdir(parents=True, exist_ok=True)
    print(f"seed {seed}", flush=True)
    faults = 0
    if args.only in (None, "collector"):
        faults += collector(seed, (1 if args.only else COLLECTOR_SHARE) * args.seconds)
    if args.only != "collector":
        share = 1 if args.only else 1 - COLLECTOR_SHARE
        faults += tables(seed, share * args.seconds, [args.only] if args.only else list(ROUNDS))
    return 1 if faults else 0


def collector(seed: int, seconds: float) -> int:
    folder = FOLDER / f"collector-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        requests, events = hostile_requests(folder, seed, seconds)
    except Exception as error:
        return fault("collector", seed, error, folder)
    shutil.rmtree(folder)
    print(f"collector: {requests} requests answered, {events} events all accounted for", flush=True)
    return 0


def tables(seed: int, seconds: float, names: list[str]) -> int:
    """Rounds by turns until the time is up, one of each at least; stops at the third that fails."""
    end, faults = time.monotonic() + seconds, 0
    rounds, lines = Counter[str](), Counter[str]()
    with spark_session(SparkSettings(master="local[2]", driver_memory="2g"), "fuzz") as spark:
        while faults < MAX_FAULTS and (time.monotonic() < end or len(rounds) < len(names)):
            name = names[rounds.total() % len(names)]
            number = seed + rounds[name]
            rounds[name] += 1
            try:
                lines[name] += ROUNDS[name](spark, FOLDER, number)
            except Exception as error:
                faults += fault(name, number, error, FOLDER)
    for name, count in rounds.items():
        print(f"{name}: {count} rounds, {lines[name]} lines all accounted for")
    print(f"{faults} rounds failed")
    return faults


def fault(what: str, seed: int, error: Exception, where: Path) -> int:
    again = f"make fuzz SEED={seed} SECONDS=1 ARGS='--only {what}'"
    said = f"{type(error).__name__}: {error}"
    text = f"{what} failed with seed {seed}: {said}\n  in {where}\n  again: {again}\n"
    (FOLDER / f"{what}-{seed}.txt").write_text(text)
    print(text, file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
