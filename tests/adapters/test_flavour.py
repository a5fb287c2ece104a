from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import yaml

from recsys_lib.adapters.flavour import OPTIONAL, flavoured, requirements
from recsys_lib.model.shipped.bundle import FOLDER
from recsys_lib.recommend.histories import Asking, Clock
from tests.model.shipped.shop import SMALL, asked, model_of, shipped, shop_of

LOADER = "recsys_lib.recommend.pyfunc"


def test_a_model_says_what_it_takes_what_it_gives_and_what_it_needs(tmp_path: Path) -> None:
    files = flavoured("a run", "model", LOADER)
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
    assert {line.split("==")[0] for line in lines} >= {"ai-edge-litert", "numba", "numpy"}
    assert all(line.count("==") == 1 for line in lines)


def test_pip_is_asked_for_nothing_that_a_stranger_has_by_the_name_of_this_package() -> None:
    assert not [line for line in requirements() if line.startswith("alluvium")]


class Columns(list[str]):
    """The names that were looked for."""

    def __init__(self) -> None:
        super().__init__(["request_id", "items"])
        self.asked: set[str] = set()

    def __contains__(self, name: object) -> bool:
        self.asked.add(str(name))
        return super().__contains__(name)


def test_mlflow_lets_every_column_through_that_a_request_may_have() -> None:
    class Watched:
        """A table that remembers which columns were looked for."""

        column_names = Columns()
        table = pa.table({"request_id": ["x"], "items": [["i1"]]})

        def __len__(self) -> int:
            return len(self.table)

        def column(self, name: str) -> pa.ChunkedArray:
            return self.table.column(name)

    Asking(shop_of(3), Clock.of({}), "next_window", 9, ("buy",)).histories(Watched())  # type: ignore[arg-type]
    assert Watched.column_names.asked - {"request_id", "items"} == set(OPTIONAL)


ELSEWHERE = """
import sys
import mlflow, pandas
model = mlflow.pyfunc.load_model(sys.argv[1])
asked = pandas.DataFrame({"request_id": ["x"], "items": [["i1", "i2"]]})
print(len(model.predict(asked, params={"k": 3})["items"][0]))
import recsys_lib
print(recsys_lib.__file__)
import recsys_lib.evaluate.metrics  # a room that does not go with a model
"""


def test_a_model_answers_by_the_sources_that_go_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shipped(model_of(shop_of(20)), folder, SMALL, golden=asked(20))
    assert (folder / FOLDER).exists()
    for name, text in flavoured("a run", "model", LOADER).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    # Isolated: what is installed is there, but comes after the model's own.
    run = [sys.executable, "-I", "-c", ELSEWHERE, str(folder)]
    told = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert told.stdout.split() == ["3", str(folder / "code" / "recsys_lib" / "__init__.py")]
