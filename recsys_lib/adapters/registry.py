"""Small things about MLflow's store that `tracking` is written with."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlparse

from recsys_lib.errors import TrackingError
from recsys_lib.types import Form, ModelVersion

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion as Registered


def safe(name: str) -> str:
    """A metric's name in MLflow's alphabet: `new:f1@10` becomes `new/f1_at_10`."""
    return name.replace("@", "_at_").replace(":", "/")


def git_revision() -> str | None:
    """The commit of the checkout this file is in, if it is in one."""
    here = str(Path(__file__).parent)
    command = ["git", "-C", here, "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def quiet_mlflow() -> ModuleType:
    """MLflow without telemetry, migration logs and hints."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    import mlflow

    for name in ("mlflow", "alembic", "alembic.runtime.migration"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return mlflow


def experiment(client: MlflowClient, name: str, place: str | None) -> str:
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    return str(client.create_experiment(name, artifact_location=place))


def ensure_model(client: MlflowClient, name: str) -> None:
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)


def noun(version: Registered) -> ModelVersion:
    tags = version.tags
    return ModelVersion(
        name=version.name,
        version=int(version.version),
        uri=f"models:/{version.name}/{version.version}",
        learned=int(tags["window"]),
        parent=int(tags["parent"]) if tags.get("parent") else None,
        vocabulary_version=int(tags.get("vocabulary_version", 0)),
        form=cast(Form, tags.get("form", "dense")),
        run_id=version.run_id or None,
    )


def parsed(uri: str) -> tuple[str, str, str]:
    """Name, alias, version number of a models:/ URI; one of the last two is empty."""
    rest = uri.removeprefix("models:/").strip("/")
    if "@" in rest:
        name, _, alias = rest.rpartition("@")
        return name, alias, ""
    name, _, number = rest.rpartition("/")
    if not name or not number.isdigit():
        forms = "models:/NAME@champion, models:/NAME/VERSION or a folder"
        raise TrackingError(f"a model must be {forms}, got {uri!r}")
    return name, "", number


def remove_local(run: Run) -> None:
    parts = urlparse(run.info.artifact_uri)
    if parts.scheme in ("", "file"):
        shutil.rmtree(Path(unquote(parts.path)).parent, ignore_errors=True)


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
