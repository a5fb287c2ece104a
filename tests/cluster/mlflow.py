"""MLflow's tracking server, with its artefacts behind it: jobs need to know its address alone."""

from __future__ import annotations

import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from tests.cluster.process import Service

PORTS = ["mlflow"]


def address(ports: Mapping[str, int]) -> str:
    return f"http://127.0.0.1:{ports['mlflow']}"


def services(folder: Path, ports: Mapping[str, int]) -> list[Service]:
    home = folder / "mlflow"
    # As `mlflow server` sets them for its workers; that command itself would leave these behind
    # when it is killed.
    env = {
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{home}/mlflow.db",
        "_MLFLOW_SERVER_REGISTRY_STORE": f"sqlite:///{home}/mlflow.db",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(home / "artifacts"),
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    place = ["--host", "127.0.0.1", "--port", str(ports["mlflow"])]
    command = [sys.executable, "-m", "uvicorn", "mlflow.server.fastapi_app:app", *place]

    def healthy() -> bool:
        with urllib.request.urlopen(f"{address(ports)}/health", timeout=5) as answer:
            return bool(answer.status == 200)

    return [Service("mlflow", home, command, healthy, env=env)]
