"""What a second rank gains: examples a second of one rank and of two, each on a core of its own.

Both learn the same number of examples with the same code that `jobs/train.py` runs; each rank has
as many examples a step (`--batch`), so two ranks take half the steps. Launches alternate, the ratio
is that of medians. Beside them two lessons of one rank each, at the same time: what two cores of
this machine give where nobody waits for anybody. Then bytes a step as counted by the network
interface and by formula, what a lost rank costs, and what a model of the all-reduce says of more
ranks than this machine has.

  python -m tests.benchmarks.bench_ranks [--short] [--rounds N] [--batch N]
"""

from __future__ import annotations

import argparse
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from recsys_lib.adapters.places import KeptFile
from recsys_lib.adapters.ranks import run_on_ranks
from recsys_lib.adapters.spark import spark_session
from recsys_lib.settings import ModelSettings, RanksSettings, SparkSettings, TrainSettings
from recsys_lib.train.lesson import Lesson
from tests.benchmarks.forecast import Network, fitted, forecast
from tests.benchmarks.rank import Work, learn, network_times
from tests.benchmarks.reporting import table, write_report
from tests.benchmarks.walks import walking_shop

WARM = 10
"""Steps that are not counted: the first one traces, the next ones fill queues."""
SIZES = {True: (5_000, 1_500, 10_240), False: (20_000, 6_000, 30_720)}
"""Items, sessions and counted examples, by whether it is the short form."""
FOLDER = Path("build/benchmarks/ranks")


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--short", action="store_true")
    made.add_argument("--rounds", type=int, default=None, help="launches of each (default 5, or 3)")
    made.add_argument("--batch", type=int, default=512, help="examples of a rank's step")
    args = made.parse_args()
    rounds = args.rounds or (3 if args.short else 5)
    items, sessions, examples = SIZES[args.short]
    load = Load(args.batch, examples)
    shutil.rmtree(FOLDER, ignore_errors=True)
    shop = walking_shop(FOLDER / "shop", items, sessions)
    with spark_session(SparkSettings(master="local[2]", driver_memory="1g"), "bench-ranks"):
        lesson = shop.lesson((0, 2), FOLDER / "model", model=ModelSettings())
        found: dict[int, list[dict[str, Any]]] = {1: [], 2: []}
        apart: list[float] = []
        for number in range(rounds):
            for ranks in found:
                found[ranks] = [*found[ranks], launched(lesson, ranks, load)]
                print(f"round {number + 1}: {ranks} ranks, {found[ranks][-1]['speed']:.0f}/s")
            apart = [*apart, side_by_side(lesson, load)]
            print(f"round {number + 1}: two lessons of 1 rank, {apart[-1]:.0f}/s")
        loss = lost(lesson, load)
        times = run_on_ranks(network_times, None, ranks=2, **_how("network"))
    sizes = {"items": items, "sessions": sessions, "examples": examples, "batch": args.batch}
    report(found, apart, loss, times, args.short, sizes)


@dataclass(frozen=True)
class Load:
    """How much is learned in a launch: examples of a rank's step, and of all that are counted."""

    batch: int
    examples: int

    def train(self, ranks: int) -> TrainSettings:
        size = self.batch * ranks
        count = WARM + self.examples // size
        many = {"min_steps": count, "min_steps_epochs": 1e9, "min_steps_targets": 1e9}
        return TrainSettings(batch_size=size, ranks=ranks, epochs=1e-9, **many)


def launched(lesson: Lesson, ranks: int, load: Load, core: int = 0) -> dict[str, Any]:
    """The first rank's summary, with the examples a second of all."""
    mine = replace(lesson, train=load.train(ranks), folder=f"{lesson.folder}-{core}")
    told = run_on_ranks(learn, Work(mine, WARM, core), ranks=ranks, **_how(f"{ranks}-{core}"))
    return {**told, "speed": ranks * load.batch / told["step_seconds"]}


def side_by_side(lesson: Lesson, load: Load) -> float:
    """Examples a second of two ranks that know nothing of each other."""
    with ThreadPoolExecutor(2) as both:
        made = both.map(lambda core: launched(lesson, 1, load, core), range(2))
        return sum(told["speed"] for told in made)


def lost(lesson: Lesson, load: Load) -> dict[str, float]:
    """What it costs that the second rank is killed in the middle: seconds and steps done again."""
    every = 2.0
    kept = KeptFile(str(FOLDER.absolute() / "checkpoint"))
    settings = RanksSettings(checkpoint_seconds=every, wait_seconds=0.0)
    train, middle = load.train(2), WARM + load.examples // load.batch // 4
    mine = replace(lesson, train=train, kept=kept, ranks=settings)
    marks = FOLDER.absolute() / "killed"
    told = run_on_ranks(
        learn,
        Work(mine, WARM, dies=middle, mark=str(marks)),
        ranks=2,
        settings=settings,
        **_how("lost"),
    )
    killed = float(marks.read_text())
    again = middle - told["resumed"]
    return {
        "checkpoint_seconds": every,
        "seconds until learning again": round(told["first_step"] - killed, 1),
        "steps done again": again,
    }


def report(
    found: dict[int, list[dict[str, Any]]],
    apart: list[float],
    loss: dict[str, float],
    times: dict[str, Any],
    short: bool,
    sizes: dict[str, int],
) -> None:
    speeds = {ranks: [told["speed"] for told in launches] for ranks, launches in found.items()}
    pairs = [two / (2 * one) for one, two in zip(speeds[1], speeds[2], strict=True)]
    efficiency = median(speeds[2]) / (2 * median(speeds[1]))
    network = fitted(times["latency"], times["seconds"])
    step = {ranks: median(told["step_seconds"] for told in found[ranks]) for ranks in found}
    last = found[2][-1]
    rows = [_row(ranks, speeds[ranks], found[ranks]) for ranks in found]
    curve = forecasts(step[1], last, network)
    ratios = {
        "efficiency_2_ranks": round(efficiency, 4),
        "efficiency_2_ranks_spread": [round(min(pairs), 4), round(max(pairs), 4)],
        "efficiency_2_ranks_side_by_side": round(median(apart) / (2 * median(speeds[1])), 4),
        "efficiency_2_ranks_forecast": round(forecast(step[1], last["parts"], 2, network), 4),
    }
    path = write_report(
        "ranks",
        short=short,
        data=f"walks over {sizes['items']:,} items, {sizes['sessions']:,} sessions",
        settings=sizes,
        rows=rows,
        ratios=ratios,
        lost_rank=loss,
        network={"latency": network.latency, "bytes_a_second": network.speed},
        forecast=curve,
        ways=last["ways"],
    )
    print("\nSHORT: too small to judge by" if short else "")
    print(table(rows, list(rows[0])))
    print(f"\nhow tables are joined: {last['ways']}")
    print(f"a rank is lost: {loss}\n{ratios}\n")
    print(table(curve, list(curve[0])))
    print(path)


def forecasts(step: float, last: dict[str, Any], here: Network) -> list[dict[str, Any]]:
    """Efficiency by number of ranks: on this machine's network, and on two of GPU clusters, whose
    latency, speed and gain over a core are taken for granted and not measured."""
    clusters = {
        "this machine": (step, here),
        "GPU 20 x a core, 25 Gbit/s": (step / 20, Network(30e-6, 25e9 / 8 * 0.8)),
        "GPU 20 x a core, 100 Gbit/s": (step / 20, Network(20e-6, 100e9 / 8 * 0.8)),
    }
    return [
        {"forecast": name, **{f"{n}": forecast(s, last["parts"], n, net) for n in (2, 8, 64, 512)}}
        for name, (s, net) in clusters.items()
    ]


def _row(ranks: int, speeds: list[float], launches: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "ranks": ranks,
        "examples/s": round(median(speeds), 1),
        "least": round(min(speeds), 1),
        "most": round(max(speeds), 1),
        "ms a step": round(1000 * median(told["step_seconds"] for told in launches), 1),
        "bytes a step, counted": round(median(told["sent"] for told in launches)),
        "bytes a step, formula": round(sum(launches[-1]["formula"].values())),
        "waiting": round(median(told["waiting"] for told in launches), 4),
        "waiting for data": round(median(told["for_data"] for told in launches), 4),
    }


def _how(name: str) -> dict[str, Any]:
    return {"threads": 1, "timeout": 120, "log": str(FOLDER / f"ranks-{name}.log")}


if __name__ == "__main__":
    main()
