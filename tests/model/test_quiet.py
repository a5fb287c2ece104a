from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from recsys_lib.model.quiet import silent, without


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
