"""A rank's own process: takes pickled work from its task, runs it, and sends back the result."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
import traceback

from recsys_lib.adapters.ranks.telling import send


def main() -> int:
    # The kernel ends the rank with its task, however that dies: none trains on for nobody.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    try:
        function, argument = pickle.load(sys.stdin.buffer)
        result = pickle.dumps(function(argument))
    except BaseException as error:
        traceback.print_exc()
        lines = [line for line in str(error).splitlines() if line.strip()]
        first = f"{type(error).__name__}: {lines[0] if lines else ''}"
        send({"peer" if _of_a_peer(error) else "failed": first})
        return 1
    send({"result": result.hex()})
    return 0


def _of_a_peer(error: BaseException) -> bool:
    """Whether another rank's end is all that went wrong here."""
    names = ("Horovod", "gloo", "NCCL", "ncclComm")
    ours = type(error).__module__.startswith(("tensorflow", "horovod"))
    return ours and any(name in str(error) for name in names)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # Horovod waits for the others on its way out, TensorFlow for its threads
