from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from recsys_lib.adapters.package import pack, ships

SITE = "lib/python3.11/site-packages"


@pytest.mark.parametrize(
    ("name", "goes"),
    [
        ("bin/python", True),
        ("pyvenv.cfg", True),
        (f"{SITE}/horovod/tensorflow/mpi_lib.so", True),
        (f"{SITE}/tensorflow/python/ops/a.py", True),
        (f"{SITE}/pyspark/sql/session.py", True),
        (f"{SITE}/pyspark/jars/spark-core.jar", False),
        (f"{SITE}/tensorflow/include/a.h", False),
        (f"{SITE}/mypy/build.py", False),
        (f"{SITE}/mypy_extensions.py", True),
        (f"{SITE}/__editable__.alluvium-0.1.0.pth", False),
        (f"{SITE}/numpy/__pycache__/a.pyc", False),
    ],
)
def test_what_a_node_runs_goes_and_what_a_developer_needs_stays(name: str, goes: bool) -> None:
    assert ships(name) == goes


def test_the_archive_holds_the_environment_at_its_root(tmp_path: Path) -> None:
    for name in ("bin/python", f"{SITE}/numpy/a.py", f"{SITE}/mypy/a.py"):
        (tmp_path / "env" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "env" / name).write_text(name)
    target = tmp_path / "dist" / "environment.tar.gz"
    assert pack(tmp_path / "env", target) == target.stat().st_size
    with tarfile.open(target) as archive:
        files = {info.name for info in archive if info.isfile()}
    assert files == {"bin/python", f"{SITE}/numpy/a.py"}
