"""What makes a version's folder an MLflow model: signature, example, and what it needs to run."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

EXAMPLE = "input_example.json"
REQUIREMENTS = "requirements.txt"
ENVIRONMENT = "python_env.yaml"
CODE = "code"
PACKAGE, ROOMS = "recsys_lib", ("model", "recommend")
"""What answers needs these rooms, and the modules that stand beside them."""
NEEDED = (
    *("ai-edge-litert", "numba", "numpy", "pandas", "protobuf", "pyarrow"),
    *("pydantic", "PyYAML"),
)
OPTIONAL = ("types", "times", "values", "now")


def flavoured(run_id: str, path: str, loader: str) -> dict[str, str]:
    """File name -> text: MLmodel and what stands beside it. `loader`: see `mlflow.pyfunc`.

    The loader's sources go with the model, so that it answers where this package is not installed.
    """
    from mlflow import pyfunc
    from mlflow.models import Model

    model = Model(artifact_path=path, run_id=run_id, signature=_signature())
    model.saved_input_example_info = {
        "artifact_path": EXAMPLE,
        "type": "dataframe",
        "pandas_orient": "split",
    }
    environment = {"virtualenv": ENVIRONMENT}
    pyfunc.add_to_model(model, loader_module=loader, code=CODE, env=environment)
    example = {"columns": ["request_id", "items"], "data": [["1", ["an item", "another"]]]}
    python = f"python: {platform.python_version()}\ndependencies:\n- -r {REQUIREMENTS}\n"
    return {
        "MLmodel": str(model.to_yaml()),
        EXAMPLE: json.dumps(example),
        ENVIRONMENT: python,
        REQUIREMENTS: "".join(f"{line}\n" for line in requirements()),
        **sources(),
    }


def sources() -> dict[str, str]:
    """File name -> text of every module that answering may import."""
    root = files(PACKAGE)
    rooms = [root / room for room in ROOMS]
    found = [(PACKAGE, file) for file in root.iterdir() if file.is_file()]
    found += [each for room in rooms for each in _below(room, f"{PACKAGE}/{room.name}")]
    return {
        f"{CODE}/{folder}/{file.name}": file.read_text(encoding="utf-8")
        for folder, file in sorted(found, key=lambda pair: (pair[0], pair[1].name))
        if file.name.endswith(".py")
    }


def _below(room: Traversable, name: str) -> Iterator[tuple[str, Traversable]]:
    for entry in room.iterdir():
        if entry.is_file():
            yield name, entry
        else:
            yield from _below(entry, f"{name}/{entry.name}")


def requirements() -> list[str]:
    """Pinned to what is installed here."""
    lines = []
    for name in NEEDED:
        try:
            lines.append(f"{name}=={version(name)}")
        except PackageNotFoundError:  # the SavedModel answers where LiteRT is not installed
            continue
    return lines


def _signature() -> Any:
    """Lists of ids may be texts or numbers, and times what the mapping had."""
    from mlflow.models import ModelSignature
    from mlflow.types.schema import (
        AnyType,
        Array,
        ColSpec,
        DataType,
        ParamSchema,
        ParamSpec,
        Schema,
    )

    asked = [ColSpec(AnyType(), "request_id"), ColSpec(AnyType(), "items")]
    asked += [ColSpec(AnyType(), name, required=False) for name in OPTIONAL]
    answer = [
        ColSpec(DataType.string, "request_id"),
        ColSpec(Array(DataType.string), "items"),
        ColSpec(Array(DataType.float), "scores"),
    ]
    # MLflow drops the params of predict that no signature names.
    k = ParamSpec("k", DataType.long, 20)
    exclude = ParamSpec("exclude_seen", DataType.boolean, False)
    return ModelSignature(Schema([*asked]), Schema([*answer]), ParamSchema([k, exclude]))
