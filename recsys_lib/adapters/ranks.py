"""Run a function on N Horovod ranks inside Spark tasks, with its progress shown here."""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from recsys_lib.errors import RanksError


def run_on_ranks(
    function: Callable[[Any], dict[str, Any]],
    argument: Any,
    *,
    ranks: int,
    threads: int,
    timeout: float,
    log: str,
    progress: str | None = None,
    label: str = "training",
) -> dict[str, Any]:
    """`function(argument)` on every rank; the first rank's result.

    Ranks print to `log`. `progress` names the file in which the first rank keeps its step.
    Raises RanksError when a rank fails, or not all ranks have started in `timeout` seconds.
    """
    import recsys_lib.model.tensorflow  # noqa: F401  (first and quietly; Horovod imports it too)

    import horovod.spark  # isort: skip

    environment = {
        **os.environ,
        "TF_USE_LEGACY_KERAS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "OMP_NUM_THREADS": str(threads),
        "PYTHONWARNINGS": "ignore",
        "HOROVOD_LOG_LEVEL": "error",
    }
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a") as output, _threads_fail_into(output), _ProgressBar(progress, label):
        try:
            results = horovod.spark.run(
                function,
                args=(argument,),
                num_proc=ranks,
                use_gloo=True,
                env=environment,
                stdout=output,
                stderr=output,
                start_timeout=int(timeout),
                verbose=0,
            )
        except Exception as error:
            raise RanksError(
                f"all {ranks} ranks must finish, got: {_first_line(error)}; "
                f"the champion is as it was, see {log}, then run the same command again"
            ) from error
    return dict(results[0])


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


@contextmanager
def _threads_fail_into(output: TextIO) -> Iterator[None]:
    """Horovod's own threads print a screenful when a rank is lost; the error says it in a line."""
    kept = threading.excepthook

    def note(args: threading.ExceptHookArgs) -> None:
        traceback.print_exception(args.exc_type, args.exc_value, args.exc_traceback, file=output)

    threading.excepthook = note
    try:
        yield
    finally:
        threading.excepthook = kept


class _ProgressBar:
    """Follows a progress file with a bar until the block ends."""

    def __init__(self, path: str | None, label: str) -> None:
        self._path, self._label = path, label
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> None:
        if self._path:
            Path(self._path).unlink(missing_ok=True)
            self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        if self._path:
            self._thread.join()

    def _follow(self) -> None:
        often = 0.5 if sys.stderr.isatty() else 30.0
        with tqdm(desc=self._label, unit="step", leave=False, mininterval=often) as bar:
            while not self._done.wait(0.5):
                try:
                    state = json.loads(Path(str(self._path)).read_text())
                except (OSError, ValueError):
                    continue
                bar.total = state["steps"]
                bar.update(state["step"] - bar.n)
                bar.set_postfix(loss=f"{state['loss']:.3f}", refresh=False)
