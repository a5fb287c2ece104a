"""Hostile input at the parser and the collector: `make fuzz [SECONDS=600] [SEED=n]`.

Each round has a seed of its own. What fails is kept in build/fuzz with how to repeat it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path
from random import SystemRandom

from recsys_lib.adapters.spark import spark_session
from recsys_lib.settings import SparkSettings
from tests.fuzz.collector import hostile_requests
from tests.fuzz.parser import hostile_round
from tests.serve.service import ROOT

FOLDER = ROOT / "build" / "fuzz"
PARSER_SHARE = 0.7


def main() -> int:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--seconds", type=float, default=600)
    made.add_argument("--seed", type=int, help="of the first round; default: a new one")
    made.add_argument("--only", choices=("parser", "collector"))
    args = made.parse_args()
    seed = SystemRandom().randrange(2**31) if args.seed is None else args.seed
    FOLDER.mkdir(parents=True, exist_ok=True)
    print(f"seed {seed}", flush=True)
    faults = 0
    if args.only != "parser":
        share = 1 if args.only else 1 - PARSER_SHARE
        faults += collector(seed, share * args.seconds)
    if args.only != "collector":
        faults += parser(seed, (1 if args.only else PARSER_SHARE) * args.seconds)
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


def parser(seed: int, seconds: float) -> int:
    """Rounds until the time is up, at least one; stops at the third that fails."""
    end, rounds, lines, faults = time.monotonic() + seconds, 0, 0, 0
    with spark_session(SparkSettings(master="local[2]", driver_memory="2g"), "fuzz") as spark:
        while (rounds == 0 or time.monotonic() < end) and faults < 3:
            try:
                lines += hostile_round(spark, FOLDER, seed + rounds)
            except Exception as error:
                faults += fault("parser", seed + rounds, error, FOLDER)
            rounds += 1
    print(f"parser: {rounds} rounds, {lines} lines all accounted for, {faults} rounds failed")
    return faults


def fault(what: str, seed: int, error: Exception, where: Path) -> int:
    again = f"make fuzz SEED={seed} SECONDS=1 ARGS='--only {what}'"
    told = f"{what} failed with seed {seed}: {type(error).__name__}: {error}"
    text = f"{told}\n  in {where}\n  again: {again}\n"
    (FOLDER / f"{what}-{seed}.txt").write_text(text)
    print(text, file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
