from __future__ import annotations

import importlib
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from recsys_lib.model.quiet import silent, uncompiled, without


def terminal() -> str:
    return str(Path("/proc/self/fd/2").readlink())


def test_the_last_of_threads_that_were_silent_gives_the_terminal_back() -> None:
    before, inside, first_left = terminal(), threading.Barrier(2), threading.Event()

    def one(leaves_first: bool) -> str:
        with silent():
            inside.wait(10)
            if not leaves_first:
                first_left.wait(10)
            heard = terminal()
        first_left.set()
        return heard

    with ThreadPoolExecutor(2) as threads:
        heard = list(threads.map(one, (True, False)))
    assert heard == [os.devnull, os.devnull]
    assert terminal() == before


def test_the_terminal_comes_back_after_an_error() -> None:
    before = terminal()
    try:
        with silent():
            raise ValueError
    except ValueError:
        assert terminal() == before


def test_a_module_is_not_found_inside_and_is_there_again_after_it() -> None:
    sys.modules.pop("this", None)
    with without("this"), pytest.raises(ImportError):
        import this  # noqa: F401
    assert "this" not in sys.modules


def test_a_module_that_is_loaded_already_stays() -> None:
    with without("json"):
        import json
    assert sys.modules["json"] is json


def test_nothing_is_kept_of_what_is_compiled_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    for name in ("made_inside", "made_outside"):
        (tmp_path / f"{name}.py").write_text("")
    with uncompiled():
        importlib.import_module("made_inside")
    importlib.import_module("made_outside")
    kept = [file.name.partition(".")[0] for file in (tmp_path / "__pycache__").iterdir()]
    assert kept == ["made_outside"]
