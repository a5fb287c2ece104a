"""The Delta jars, brought once into pyspark's own `jars/`, so that plain spark-submit has them.

`python -m recsys_lib.adapters.jars` resolves them with Spark's own Ivy (no Maven is needed) in a
throwaway session, and does nothing when they are there, so that set-up works offline from then on.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from recsys_lib.errors import AlluviumError

WANTED = ("delta-spark", "delta-storage")

# Ivy's files are called group_artifact-version.jar. Whatever else Delta's poms name (Hadoop,
# Jackson, Parquet, zstd) Spark has in its own version, and two on one class path break both.
GROUPS = ("io.delta", "io.unitycatalog")


def pyspark_home() -> Path:
    """The folder of the installed pyspark, found without importing it."""
    from importlib.util import find_spec

    spec = find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise AlluviumError("pyspark must be installed before its jars; run `make setup`")
    return Path(spec.origin).parent


def delta_package(spark_version: str, delta_version: str, scala: str = "2.13") -> str:
    """The Maven coordinate whose name carries Spark's minor version, as Delta 4.1+ calls it."""
    minor = ".".join(spark_version.split(".")[:2])
    return f"io.delta:delta-spark_{minor}_{scala}:{delta_version}"


def missing(jars: Path, delta_version: str) -> list[str]:
    """The wanted artifacts that `jars` lacks in this version, by name."""
    present = [file.name for file in jars.glob("delta-*.jar")]
    ending = f"-{delta_version}.jar"
    return [
        name
        for name in WANTED
        if not any(file.startswith(name) and file.endswith(ending) for file in present)
    ]


def to_copy(resolved: list[str]) -> dict[str, str]:
    """Of the files Ivy resolved, Delta's own: {file in Ivy's folder: name in `jars/`}."""
    parts = {file: file.partition("_") for file in resolved}
    return {file: name for file, (group, _, name) in parts.items() if group in GROUPS}


def fetch(package: str, jars: Path, ivy: Path) -> list[str]:
    """Resolve `package` into `ivy`, copy Delta's jars to `jars`; the names copied.

    Raises AlluviumError with the last lines Ivy said when it finds nothing.
    """
    ivy.mkdir(parents=True, exist_ok=True)
    nothing = ivy / "nothing.py"
    nothing.write_text("", encoding="utf-8")
    home = jars.parent
    command = [str(home / "bin" / "spark-submit"), "--master", "local[1]"]
    command += ["--conf", f"spark.jars.ivy={ivy.resolve()}", "--packages", package, str(nothing)]
    env = {**os.environ, "SPARK_HOME": str(home), "PYSPARK_PYTHON": sys.executable}
    done = subprocess.run(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    (ivy / "resolve.log").write_text(done.stdout, encoding="utf-8")
    resolved = sorted(file.name for file in (ivy / "jars").glob("*.jar"))
    if done.returncode != 0 or not resolved:
        said = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        last = next((line for line in reversed(said) if "xception" in line), said[-1:] or "nothing")
        raise AlluviumError(
            f"{package} could not be resolved: {last}; the first set-up needs the network "
            f"(or ivysettings in {ivy}); all of it is in {ivy / 'resolve.log'}"
        )
    copies = to_copy(resolved)
    for source, name in copies.items():
        # Under another name first: a jar that is half there would break every session.
        partial = jars / f".{name}.partial"
        shutil.copyfile(ivy / "jars" / source, partial)
        partial.rename(jars / name)
    return sorted(copies.values())


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="recsys_lib.adapters.jars", description=__doc__)
    parser.add_argument("--ivy", type=Path, default=Path("build/ivy"), help="Ivy's own folder")
    ivy = parser.parse_args(arguments).ivy
    try:
        jars = pyspark_home() / "jars"
        delta = version("delta-spark")
        if not missing(jars, delta):
            return 0
        for name in fetch(delta_package(version("pyspark"), delta), jars, ivy):
            print(f"  {name}")
    except AlluviumError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
