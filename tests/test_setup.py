"""Set-up: targets explain themselves, pins agree, and what is missing is told in one line."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NEEDED = (
    "Makefile",
    "setup.py",
    "constraints.txt",
    "conf/spark/java-home.sh",
    "conf/connectors/pom.xml",
)


def make(folder: Path, *arguments: str, path: str = os.environ["PATH"]) -> str:
    """What make said on both streams; its own MAKEFLAGS are kept away from this one."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MF"))}
    done = subprocess.run(
        ["make", *arguments],
        cwd=folder,
        env={**env, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout.strip()


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A folder with what `make setup` reads before it makes anything."""
    for name in NEEDED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_help_explains_every_target() -> None:
    said = make(ROOT, "help")
    [targets] = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    explained = set(re.findall(r"^ *make ([\w-]+) ", said, re.MULTILINE))
    assert explained == set(targets.split()) - {"tools"}


def test_a_missing_python_is_told_in_one_line(bare: Path) -> None:
    said = make(bare, "setup", "PYTHON=python3.99")
    assert "Python 3.11 with venv is missing: install it" in said
    assert len(said.splitlines()) == 1
    assert not (bare / ".venv").exists()


def test_a_missing_java_is_told_in_one_line(bare: Path) -> None:
    (bare / "conf/spark/java-home.sh").write_text("exit 1\n")
    said = make(bare, "setup")
    assert "Java 17 or 21 is missing: install a JDK" in said
    assert len(said.splitlines()) == 1


def test_a_missing_compiler_is_told_in_one_line(bare: Path) -> None:
    (bare / "conf/spark/java-home.sh").write_text("echo /java\n")
    tools = bare / "bin"
    tools.mkdir()
    (tools / "python3.11").symlink_to(Path(sys.executable).resolve())
    for name in ("make", "bash", "sh", "cat", "cut", "echo", "grep", "sha256sum"):
        found = shutil.which(name)
        assert found is not None
        (tools / name).symlink_to(found)
    said = make(bare, "setup", path=str(tools))
    assert "A C++17 compiler is missing: install one" in said
    assert len(said.splitlines()) == 1


def test_java_of_an_unfit_version_is_passed_over(tmp_path: Path) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    java.chmod(0o755)
    script = [
        shutil.which("bash") or "bash",
        str(ROOT / "conf/spark/java-home.sh"),
    ]
    env = {**os.environ, "JAVA_HOME": str(tmp_path)}
    found = subprocess.run(script, env=env, stdout=subprocess.PIPE, text=True, check=False).stdout
    assert str(tmp_path) not in found
    java.write_text("#!/bin/sh\necho 'openjdk version \"21.0.2\"' >&2\n")
    found = subprocess.run(script, env=env, stdout=subprocess.PIPE, text=True, check=False).stdout
    assert found.strip() == str(tmp_path)


def test_every_pin_of_setup_is_the_one_of_the_lock() -> None:
    lock = {
        _name(line): line.partition("==")[2]
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    }
    pins = re.findall(r'"([\w\-]+)(?:\[[\w\-]+\])?==([^"]+)"', (ROOT / "setup.py").read_text())
    assert len(pins) > 5
    assert {name: lock[_name(name)] for name, _ in pins} == dict(pins)


def test_the_lock_names_versions_and_no_places() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = [line for line in lines if not line.startswith("#")]
    assert [line for line in pinned if not re.fullmatch(r"[\w.\-]+==[\w.]+", line)] == []


def _name(requirement: str) -> str:
    return re.split(r"==", requirement)[0].lower().replace("_", "-")
