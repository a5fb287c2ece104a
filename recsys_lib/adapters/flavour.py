"""What makes a version's folder an MLflow model: signature, example, and what it needs to run."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

EXAMPLE = "input_example.json"
REQUIREMENTS = "requirements.txt"
ENVIRONMENT = "python_env.yaml"
NEEDED = ("alluvium", "ai-edge-litert", "faiss-cpu", "numpy", "pandas", "protobuf", "pyarrow")


def flavoured(run_id: str, path: str, loader: str) -> dict[str, str]:
    """File name -> text: MLmodel and what stands beside it. `loader`: see `mlflow.pyfunc`."""
    from mlflow import pyfunc
    from mlflow.models import Model

    model = Model(artifact_path=path, run_id=run_id, signature=_signature())
    model.saved_input_example_info = {
        "artifact_path": EXAMPLE,
        "type": "dataframe",
        "pandas_orient": "split",
    }
    environment = {"virtualenv": ENVIRONMENT}
    pyfunc.add_to_model(model, loader_module=loader, env=environment)
    example = {"columns": ["request_id", "items"], "data": [["1", ["an item", "another"]]]}
    python = f"python: {platform.python_version()}\ndependencies:\n- -r {REQUIREMENTS}\n"
    return {
        "MLmodel": str(model.to_yaml()),
        EXAMPLE: json.dumps(example),
        ENVIRONMENT: python,
        REQUIREMENTS: "".join(f"{line}\n" for line in requirements()),
    }


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
    asked += [ColSpec(AnyType(), name, required=False) for name in ("types", "times", "now")]
    answer = [
        ColSpec(DataType.string, "request_id"),
        ColSpec(Array(DataType.string), "items"),
        ColSpec(Array(DataType.float), "scores"),
    ]
    # MLflow drops the params of predict that no signature names.
    k = ParamSpec("k", DataType.long, 20)
    exclude = ParamSpec("exclude_seen", DataType.boolean, False)
    return ModelSignature(Schema([*asked]), Schema([*answer]), ParamSchema([k, exclude]))
