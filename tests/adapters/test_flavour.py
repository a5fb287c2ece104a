from __future__ import annotations

import json
from pathlib import Path

import yaml

from recsys_lib.adapters.flavour import flavoured, requirements


def test_a_model_says_what_it_takes_what_it_gives_and_what_it_needs(tmp_path: Path) -> None:
    files = flavoured("a run", "model", "recsys_lib.recommend.pyfunc")
    model = yaml.safe_load(files["MLmodel"])
    inputs = json.loads(model["signature"]["inputs"])
    assert [column["name"] for column in inputs if column["required"]] == ["request_id", "items"]
    outputs = json.loads(model["signature"]["outputs"])
    assert [column["name"] for column in outputs] == ["request_id", "items", "scores"]
    example = json.loads(files[model["saved_input_example_info"]["artifact_path"]])
    assert example["columns"] == ["request_id", "items"]
    environment = model["flavors"]["python_function"]["env"]["virtualenv"]
    assert "-r requirements.txt" in files[environment]


def test_requirements_are_pinned() -> None:
    lines = requirements()
    assert {line.split("==")[0] for line in lines} >= {"ai-edge-litert", "faiss-cpu", "numpy"}
    assert all(line.count("==") == 1 for line in lines)
