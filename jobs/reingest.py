"""Bring rows of the quarantine back after a fix; what is good now lands in silver exactly once.

  spark-submit jobs/reingest.py --out build/demo --reason bad_time [--since 2024-05-01]
      [--window 27] [--mapping FIXED.yaml] [--set clean.earliest=1980-01-01]

Rows that still break a rule stay. Killed at any moment, the same command goes on.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.context import Context, log, opened, parser, run
from recsys_lib.adapters.sources.payloads import read_payloads
from recsys_lib.clean.recipe import finish_cleaning
from recsys_lib.clean.reingest import Selection, reingest
from recsys_lib.clean.report import as_table, by_rule
from recsys_lib.errors import SettingsError
from recsys_lib.ingest.axis import Axis
from recsys_lib.ingest.bronze import check_mapping, parse
from recsys_lib.ingest.fields import known_fields
from recsys_lib.ingest.landing import Landing
from recsys_lib.mapping import Mapping, load_mapping


def bring_back(context: Context, chosen: Selection, mapping: Mapping) -> dict[str, int]:
    """Take the chosen payloads through `mapping` and the rules again; counts of rows."""
    axis, clean, lake = _axis(context, mapping), context.settings.clean, context.lake
    # Its rows may be in quarantine, and not in silver yet where what comes back is looked for.
    finish_cleaning(lake, context.mapping, clean)
    live = sorted({field.source for field in known_fields(lake)})
    staged = ~F.col("source").isin(live)

    def parsed(payloads: DataFrame) -> DataFrame:
        """By what landed them: live sources, or a log that was staged."""
        parts: list[DataFrame] = []
        for source in live:
            landing = Landing(lake, source, mapping, context.settings.ingest, clean)
            parts = [*parts, landing.again(payloads.where(F.col("source") == source), axis)]
        rest = payloads.where(staged)
        if not (parts and rest.isEmpty()):
            raw = read_payloads(context.spark, rest, lake.read("bronze").where(staged))
            check_mapping(raw, mapping)
            parts = [*parts, parse(raw, mapping, axis, clean.earliest)]
        return reduce(lambda a, b: a.unionByName(b, allowMissingColumns=True), parts)

    return reingest(lake, chosen, parsed, mapping, clean)


def _axis(context: Context, mapping: Mapping) -> Axis:
    axis = context.axis(mapping)
    if axis is None:
        fault = "windows.start must be given, as nothing has landed in this run; add it"
        raise SettingsError(mapping.name, [fault])
    return axis


def _fixed(context: Context, path: str | None) -> Mapping:
    """The mapping of the run, or a corrected one of the same log on the same axis."""
    if path is None:
        return context.mapping
    mapping, kept = load_mapping(path), context.mapping
    pairs: dict[str, tuple[Any, Any]] = {
        "name": (mapping.name, kept.name),
        "windows": (mapping.windows, kept.windows),
    }
    faults = [
        f"{name} must be the run's own, {wanted!r}, got {got!r}; correct other keys only"
        for name, (got, wanted) in pairs.items()
        if got != wanted
    ]
    if faults:
        raise SettingsError(path, faults)
    return mapping


def main(argv: list[str]) -> None:
    made = parser(__doc__)
    made.add_argument("--reason", required=True, metavar="RULE", help="the rule they broke")
    made.add_argument("--since", metavar="TIME", help="only what arrived since (ISO, UTC)")
    made.add_argument("--window", type=int, help="only rows of this window")
    made.add_argument("--mapping", metavar="YAML", help="corrected mapping; default: the run's")
    args = made.parse_args(argv)
    with opened(args, "reingest") as context, context.alone("reingest"):
        chosen = Selection(args.reason, args.since, args.window)
        counts = bring_back(context, chosen, _fixed(context, args.mapping))
        told = as_table(by_rule(context.lake))
        log.info("re-ingest of %s: %s\n%s", chosen, counts, told)
        print(
            f"{args.reason}: {counts['selected']:,} rows looked at, {counts['landed']:,} landed, "
            f"{counts['settled']:,} settled, {counts['left']:,} left\n{told}"
        )


if __name__ == "__main__":
    run(main)
