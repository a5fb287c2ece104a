"""Rows a second from source to silver, against a bare Spark copy of the same source.

  make bench-ingest [SHORT=1] [ARGS="--sources files --millions 1 5"]

Both take the same micro-batches, by turns, in one session; so does the machine's mood. What was
measured of a source with the same commit and settings is not measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import yaml
from tqdm import tqdm

from jobs.context import Context, opened, parser
from tests.benchmarks.events import DUPLICATES, MALFORMED, MAPPING, good_events, lines
from tests.benchmarks.reporting import commit, machine
from tests.benchmarks.rivals import Files, Kafka, Source, broker, copy, landing
from tests.cluster.process import ClusterError

FILES = 4  # of a part of the log, so that both cores have two
RIVALS = ("copy", "landing")
# As README says it for a busy source: what runs for minutes is worth the optimising compiler. The
# bare copy has it too.
LONG_RUN = "spark.conf={spark.driver.extraJavaOptions: '-XX:+UseParallelGC'}"
# The worst of all sources is what is reported.
WORST: dict[str, Callable[..., float]] = {
    "landing_vs_bare_copy": min,
    "landing_last_vs_first_million": max,
}


class Record:
    """Seconds by source, rival and part, kept on disk after each part."""

    def __init__(self, path: Path, key: dict[str, Any]) -> None:
        self.path = path
        found = json.loads(path.read_text()) if path.exists() else {}
        self.fresh = found.get("key") != key
        self.all: dict[str, Any] = {"key": key, "parts": {}} if self.fresh else found

    def part(self, source: str, number: int) -> dict[str, Any]:
        parts = self.all["parts"].setdefault(source, [])
        while len(parts) <= number:
            parts.append({})
        return parts[number]

    def save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.with_suffix(".part").write_text(json.dumps(self.all))
        os.replace(self.path.with_suffix(".part"), self.path)


def measured(record: Record, part: dict[str, Any], name: str, action: Callable[[], Any]) -> None:
    """A rival that was killed in the middle of a part has no seconds for it, but goes on."""
    if name in part:
        action()
        return
    part[name] = None
    record.save()
    cpu, started = _cpu(), time.monotonic()
    action()
    took = {"seconds": time.monotonic() - started, "cpu": _cpu() - cpu}
    part[name] = {kind: round(value, 3) for kind, value in took.items()}
    record.save()


def run(source: Source, context: Context, record: Record, rows: int, parts: int, total: int) -> int:
    """All parts by both rivals. The first one of a source warms both up and is not counted."""
    bar = tqdm(range(parts + 1), desc=source.name, file=sys.stderr, dynamic_ncols=True)
    for number in bar:
        part = record.part(source.name, number)
        if all(part.get(rival) for rival in RIVALS):
            continue
        if not part.get("fed"):
            first = number * rows
            source.feed(lines(context.spark, first, first + rows, total), number)
            part["fed"] = True
            record.save()
        actions: dict[str, Callable[[], Any]] = {
            "copy": lambda: copy(source, context),
            "landing": lambda: landing(source, context),
        }
        for name in RIVALS if number % 2 else RIVALS[::-1]:
            bar.set_description(f"{source.name}: {name}")
            measured(record, part, name, actions[name])
    return (parts + 1) * rows


def check(context: Context, fed: int) -> dict[str, int]:
    """That nothing was lost and nothing doubled; what there is."""
    lake = context.lake
    found = {name: lake.read(name).count() for name in ("bronze", "silver", "quarantine")}
    wanted = good_events(context.spark, fed)
    if found != {"bronze": fed, "silver": wanted, "quarantine": fed - wanted}:
        raise SystemExit(f"{fed} rows were sent, {wanted} different good ones; got {found}")
    return found


def summary(parts: list[dict[str, Any]], rows: int, marks: list[int]) -> dict[str, Any]:
    """Rates at each size, and the ratios of the whole."""
    counted = [p for p in parts[1:] if all(p.get(rival) for rival in RIVALS)]
    sizes = {}
    for mark in marks:
        taken = counted[:mark]
        if len(taken) == mark:
            sums = {r: {k: sum(p[r][k] for p in taken) for k in ("seconds", "cpu")} for r in RIVALS}
            sizes[mark * rows] = {
                **{f"{r}_rows_a_second": round(mark * rows / sums[r]["seconds"]) for r in RIVALS},
                "ratio": round(sums["copy"]["seconds"] / sums["landing"]["seconds"], 3),
                "ratio_cpu": round(sums["copy"]["cpu"] / sums["landing"]["cpu"], 3),
            }
    first, last = counted[0]["landing"], counted[-1]["landing"]
    largest = sizes[max(sizes)]
    return {
        "sizes": sizes,
        "ratios": {
            "landing_vs_bare_copy": largest["ratio"],
            "landing_last_vs_first_million": round(last["seconds"] / first["seconds"], 3),
        },
        "cpu_ratios": {
            "landing_vs_bare_copy": largest["ratio_cpu"],
            "landing_last_vs_first_million": round(last["cpu"] / first["cpu"], 3),
        },
        "parts": counted,
    }


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--sources", nargs="+", default=["files", "kafka"])
    made.add_argument("--millions", nargs="+", type=int, default=[1, 5, 20])
    made.add_argument("--short", action="store_true", help="2 parts of 100,000 rows: a smoke test")
    made.add_argument("--out", type=Path, default=Path("build/benchmarks"))
    args = made.parse_args()
    rows = 100_000 if args.short else 1_000_000
    marks = [2] if args.short else sorted(args.millions)
    total = (marks[-1] + 1) * rows
    work = (args.out / ("work-short" if args.short else "work")).absolute()
    key = {"commit": commit(), "rows": rows, "total": total}
    record = Record(work / "record.json", key)
    if record.fresh:
        shutil.rmtree(work, ignore_errors=True)
    report: dict[str, Any] = {
        "name": "ingest, SHORT: too small to judge by" if args.short else "ingest",
        "commit": commit(),
        "machine": machine(),
        "data": f"JSON events, {DUPLICATES:.0%} repeated, {MALFORMED:.0%} malformed",
        "rows": marks[-1] * rows,
        "ratios": {},
    }
    for name in args.sources:
        try:
            found = one(name, work, record, rows, marks, total)
        except ClusterError as error:
            print(f"{name}: not measured: {error}")
            continue
        mine, before = found["ratios"], report["ratios"]
        ratios = {n: worst(mine[n], before.get(n, mine[n])) for n, worst in WORST.items()}
        report = {**report, name: found, "ratios": ratios}
        report["settings"] = found.pop("settings")
        args.out.mkdir(parents=True, exist_ok=True)
        target = args.out / ("ingest-short.json" if args.short else "ingest.json")
        target.write_text(json.dumps(report, indent=1))
        _print(name, found, args.short)


def one(
    name: str, work: Path, record: Record, rows: int, marks: list[int], total: int
) -> dict[str, Any]:
    """One source in a session of its own."""
    out = work / name
    with ExitStack() as stack:
        sets = [f"files.path={out / 'inbox'}", f"files.max_files_per_batch={FILES}"]
        if name == "kafka":
            # A topic lives as long as its broker: nothing of an earlier run is left to go on with.
            shutil.rmtree(out, ignore_errors=True)
            record.all["parts"].pop(name, None)
            address = stack.enter_context(broker(work.parent.parent / "cluster"))
            sets = [f"kafka.servers={address}", "kafka.topic=events"]
            sets = [*sets, f"kafka.max_offsets_per_batch={rows}"]
        out.mkdir(parents=True, exist_ok=True)
        (out / "inbox").mkdir(exist_ok=True)
        mapping = out / "events.yaml"
        mapping.write_text(yaml.safe_dump(MAPPING.model_dump(exclude_none=True, mode="json")))
        argv = ["--config", "conf/local.yaml", "--out", str(out)]
        asked = parser(None).parse_args([*argv, *(f"--set={text}" for text in (LONG_RUN, *sets))])
        context = stack.enter_context(opened(asked, "bench", str(mapping)))
        source: Source = Kafka(context) if name == "kafka" else Files(context, FILES)
        fed = run(source, context, record, rows, marks[-1], total)
        counts = check(context, fed)
        settings = context.settings.model_dump(mode="json", include={"spark", "lake", "ingest"})
    return {**summary(record.all["parts"][name], rows, marks), "counts": counts,
            "settings": settings}  # fmt: skip


def _print(name: str, found: dict[str, Any], short: bool) -> None:
    print(f"\n{name}{' (short: too small to judge by)' if short else ''}")
    print(f"{'events':>12} {'bare copy/s':>12} {'landing/s':>12} {'ratio':>7} {'by CPU':>7}")
    for rows, line in found["sizes"].items():
        rates = f"{line['copy_rows_a_second']:>12,} {line['landing_rows_a_second']:>12,}"
        print(f"{rows:>12,} {rates} {line['ratio']:>7.2f} {line['ratio_cpu']:>7.2f}")
    for kind in ("ratios", "cpu_ratios"):
        print(kind.replace("_", " "), found[kind])


def _cpu() -> float:
    """Seconds of this process and of all that it started."""
    me = psutil.Process()
    return float(sum(sum(p.cpu_times()[:2]) for p in (me, *me.children(recursive=True))))


if __name__ == "__main__":
    main()
