from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, PERMISSION_DENIED

from recsys_lib.adapters.tracking import Tracking
from recsys_lib.errors import TrackingError
from recsys_lib.settings import TrackingSettings
from recsys_lib.types import Estimate, EvalReport, ModelVersion, Verdict

YES = Verdict(True, ("better on 50 users",), Estimate(0.02, 0.01, 0.03))
NO = Verdict(False, ("not proven better",))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture
def store(folder: Path, request: pytest.FixtureRequest) -> Tracking:
    """A model name of its own for each test, in one store: making a store costs seconds."""
    return Tracking(TrackingSettings(), folder, request.node.name)


@pytest.fixture
def learned(store: Tracking, tmp_path: Path) -> Callable[..., ModelVersion]:
    def learn(window: int, **more: object) -> ModelVersion:
        (tmp_path / "model.json").write_text(json.dumps({"window": window}))
        return store.log_version(window, tmp_path, **more)  # type: ignore[arg-type]

    return learn


def test_nothing_is_champion_before_the_first_version(store: Tracking) -> None:
    assert store.champion() is None
    assert store.versions() == []
    assert store.version_for(26) is None


@pytest.mark.parametrize("code", [INTERNAL_ERROR, PERMISSION_DENIED])
def test_a_store_that_cannot_be_asked_is_an_error_and_not_a_missing_champion(
    store: Tracking, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def away(name: str, alias: str) -> None:
        raise MlflowException("away", error_code=code)

    monkeypatch.setattr(store.client, "get_model_version_by_alias", away)
    with pytest.raises(MlflowException, match="away"):
        store.champion()


def test_version_holds_the_files_and_knows_what_it_learned(
    store: Tracking, learned: Callable[..., ModelVersion]
) -> None:
    version = learned(26, parent=None, vocabulary_version=3, form="pruned")
    assert (version.version, version.learned, version.parent) == (1, 26, None)
    assert (version.vocabulary_version, version.form) == (3, "pruned")
    files = Path(store.local_path(version))
    assert json.loads((files / "model.json").read_text()) == {"window": 26}
    assert "recsys_lib.recommend.pyfunc" in (files / "MLmodel").read_text()
    assert learned(27, parent=1).parent == 1


def test_window_that_was_learned_already_is_not_logged_again(
    store: Tracking, learned: Callable[..., ModelVersion]
) -> None:
    first = learned(26, metrics={"loss": 1.0})
    assert learned(26, metrics={"loss": 9.0}) == first
    assert store.versions() == [first]


def test_attempt_that_was_killed_before_registration_leaves_no_trace(
    store: Tracking, learned: Callable[..., ModelVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(Exception):
        pass

    def die(*_: object, **__: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(store.client, "create_model_version", die)
        with pytest.raises(KilledError):
            learned(27)
    query = f"tags.model = '{store.name}'"
    experiment = store.client.get_experiment_by_name("alluvium")
    (left,) = store.client.search_runs([experiment.experiment_id], query)
    version = learned(27)
    assert version.version == 1
    (kept,) = store.client.search_runs([experiment.experiment_id], query)
    assert kept.info.run_id == version.run_id != left.info.run_id
    assert not Path(left.info.artifact_uri.removeprefix("file://")).exists()


def test_champion_moves_only_by_promotion(
    store: Tracking, learned: Callable[..., ModelVersion]
) -> None:
    first, second = learned(26), learned(27)
    store.promote(first, Verdict(True, ("there is no champion yet",)))
    store.record_verdict(second, NO, window=28)
    assert store.champion() == first
    store.promote(second, YES, window=29)
    assert store.champion() == second
    again = Tracking(
        TrackingSettings(), Path(store.uri.removeprefix("sqlite:///")).parent, store.name
    )
    assert again.champion() == second


def test_decision_is_remembered_by_exam(
    store: Tracking, learned: Callable[..., ModelVersion]
) -> None:
    version = learned(26)
    store.record_verdict(version, NO, window=27)
    store.record_verdict(version, YES, window=28)
    assert store.verdict_of(version, 27) == NO
    assert store.verdict_of(version, 28) == YES
    assert store.verdict_of(version, 29) is None
    tags = store.client.get_model_version(version.name, str(version.version)).tags
    assert tags["verdict"] == "promoted"
    assert tags["verdict.reasons"] == "better on 50 users"


def test_scores_logged_twice_are_one_point_with_its_interval(
    store: Tracking, learned: Callable[..., ModelVersion]
) -> None:
    version = learned(26)
    metrics = {"f1@10": Estimate(0.18, 0.17, 0.19), "new:f1@10": Estimate(float("nan"), 0, 0)}
    report = EvalReport("candidate", 27, 50, metrics)
    for _ in range(2):
        store.log_scores(version, report, coverage=0.25)
    (point,) = store.client.get_metric_history(version.run_id, "f1_at_10")
    assert (point.step, point.value) == (27, 0.18)
    values = store.client.get_run(version.run_id).data.metrics
    assert values["f1_at_10_low"] == 0.17
    assert values["coverage_at_10"] == 0.25
    assert "new/f1_at_10" not in values


def test_run_carries_params_curves_and_pictures(
    store: Tracking, learned: Callable[..., ModelVersion]
) -> None:
    version = learned(
        26,
        params={"train": {"epochs": 2}, "seed": 7},
        metrics={"new:loss": 0.5},
        curves={"loss": [(1, 2.0), (2, 1.5)], "sparsity": []},
    )
    run = store.client.get_run(version.run_id)
    assert run.data.params == {"train.epochs": "2", "seed": "7"}
    assert run.data.metrics["new/loss"] == 0.5
    assert [p.value for p in store.client.get_metric_history(version.run_id, "loss")] == [2.0, 1.5]
    pictures = [f.path for f in store.client.list_artifacts(version.run_id, "curves")]
    assert pictures == ["curves/loss.png"]


def test_model_is_found_by_alias_by_number_and_by_folder(
    store: Tracking, learned: Callable[..., ModelVersion], tmp_path: Path
) -> None:
    first, second = learned(26), learned(27)
    store.promote(second, YES)
    assert store.local_path(f"models:/{store.name}/1") == store.local_path(first)
    assert store.local_path(f"models:/{store.name}@champion") == store.local_path(second)
    assert store.local_path(str(tmp_path)) == str(tmp_path)


def test_asking_for_what_is_not_there_says_what_is(
    store: Tracking, learned: Callable[..., ModelVersion]
) -> None:
    learned(26)
    with pytest.raises(TrackingError, match=r"versions \[1\], none of them promoted; run jobs"):
        store.local_path(f"models:/{store.name}@champion")
    with pytest.raises(TrackingError, match="has the models"):
        store.local_path("models:/nobody/1")
    with pytest.raises(TrackingError, match="a model must be models:/NAME@champion"):
        store.local_path("models:/nobody")
    with pytest.raises(TrackingError, match="must be a folder with a model"):
        store.local_path("no/such/folder")


def test_a_version_of_a_server_is_downloaded_once(
    store: Tracking,
    learned: Callable[..., ModelVersion],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def download(source: str, dst_path: str) -> str:
        asked.append(source)
        (Path(dst_path) / "model").mkdir()
        (Path(dst_path) / "model" / "from").write_text(source)
        return f"{dst_path}/model"

    def at_server(name: str, version: str) -> str:
        return f"mlflow-artifacts:/1/run-{version}/artifacts/model"

    monkeypatch.setenv("LOCAL_DIRS", str(tmp_path / "cache"))
    monkeypatch.setattr(store.client, "get_model_version_download_uri", at_server)
    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", download)
    versions = [learned(26), learned(27)]
    for version in (*versions, *versions):
        told = (Path(store.local_path(version)) / "from").read_text()
        assert told == at_server(version.name, str(version.version))
    assert len(asked) == 2
    [cache] = (tmp_path / "cache").iterdir()
    assert len(list(cache.iterdir())) == 2
