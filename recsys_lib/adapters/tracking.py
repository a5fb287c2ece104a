"""MLflow: one run and one registered version for each window that was learned, and the champion.

A version is registered by one transaction after everything of its run is stored, so a version
that is there is whole, and a run without a version is what a killed attempt left behind.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from recsys_lib.adapters.curves import drawn
from recsys_lib.adapters.flavour import flavoured
from recsys_lib.adapters.places import cached
from recsys_lib.adapters.registry import (
    ensure_model,
    experiment,
    flat,
    git_revision,
    noun,
    parsed,
    quiet_mlflow,
    remove_local,
    safe,
)
from recsys_lib.errors import TrackingError
from recsys_lib.settings import TrackingSettings
from recsys_lib.types import Estimate, EvalReport, Form, ModelVersion, Place, Verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion as Registered

CHAMPION = "champion"
WITHDRAWN = "withdrawn"
ARTIFACT = "model"
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""What a store says where there is no such model, version or alias; whatever else it says, it has
not been asked, and nobody may be promoted because the champion was out of sight."""
LOADER = "recsys_lib.recommend.pyfunc"

Curve = Sequence[tuple[int, float]]
"""(step, value), steps rising."""


class Tracking:
    """The store of one run folder: SQLite and local artefacts unless `settings.uri` says else."""

    def __init__(self, settings: TrackingSettings, out: str | Place, name: str) -> None:
        self._mlflow = quiet_mlflow()
        folder = Path(str(out)).resolve()
        self.name = name
        self.uri = settings.uri or f"sqlite:///{folder / 'mlflow.db'}"
        if settings.uri is None:
            folder.mkdir(parents=True, exist_ok=True)
        self._mlflow.set_tracking_uri(self.uri)
        self._mlflow.set_registry_uri(self.uri)
        self.client: MlflowClient = self._mlflow.MlflowClient()
        place = None if settings.uri else (folder / "mlartifacts").as_uri()
        self._experiment = experiment(self.client, settings.experiment, place)

    def log_version(
        self,
        window: int,
        directory: str | Path,
        *,
        parent: int | None = None,
        params: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        curves: Mapping[str, Curve] | None = None,
        tags: Mapping[str, Any] | None = None,
        vocabulary_version: int = 0,
        form: Form = "dense",
    ) -> ModelVersion:
        """Register the files of `directory` as what was learned up to and including `window`.

        When that window has a version already, it is returned as it is and nothing is logged.
        Nested `params` become dotted names. `curves` become metrics with steps, and pictures.
        """
        found = self.version_for(window)
        if found is not None:
            return found
        self._discard_attempts(window)
        marks = {
            "window": window,
            "parent": "" if parent is None else parent,
            "vocabulary_version": vocabulary_version,
            "form": form,
        }
        texts = {key: str(value) for key, value in {**marks, **(tags or {})}.items()}
        extra = {"mlflow.source.git.commit": revision} if (revision := git_revision()) else {}
        run = self.client.create_run(
            self._experiment,
            run_name=f"{self.name}-window-{window}",
            tags={"model": self.name, **texts, **extra},
        )
        run_id = run.info.run_id
        for key, value in flat(params or {}):
            self.client.log_param(run_id, safe(key), str(value)[:6000])
        for key, number in (metrics or {}).items():
            self.client.log_metric(run_id, safe(key), float(number))
        self._log_curves(run_id, curves or {})
        self.client.log_artifacts(run_id, str(directory), ARTIFACT)
        for name, text in flavoured(run_id, ARTIFACT, LOADER).items():
            self.client.log_text(run_id, text, f"{ARTIFACT}/{name}")
        self.client.set_terminated(run_id)
        ensure_model(self.client, self.name)
        version = self.client.create_model_version(
            self.name, f"{run.info.artifact_uri}/{ARTIFACT}", run_id, tags=texts
        )
        return noun(version)

    def version_for(self, window: int) -> ModelVersion | None:
        """The version that learned `window` last, if that was finished."""
        return next((v for v in self.versions() if v.learned == window), None)

    def versions(self) -> list[ModelVersion]:
        """Every version, oldest first."""
        return [noun(version) for version in self._registered()]

    def version(self, number: int) -> ModelVersion:
        """The version of this number. Raises TrackingError with those there are."""
        versions = self.versions()
        found = next((v for v in versions if v.version == number), None)
        if found is None:
            have = ", ".join(str(v.version) for v in versions) or "none"
            raise TrackingError(f"{self.name} must have a version {number}, got {have}")
        return found

    def log_seconds(self, version: ModelVersion, seconds: Mapping[str, float]) -> None:
        """Wall time by stage of the window that made the version."""
        if version.run_id is not None:
            points = {f"seconds/{name}": [(version.learned, t)] for name, t in seconds.items()}
            self._log_points(version.run_id, points)

    def metrics_of(self, version: ModelVersion) -> dict[str, float]:
        """The last value of every metric of the version's run."""
        if version.run_id is None:
            return {}
        return dict(self.client.get_run(version.run_id).data.metrics)

    def champion(self) -> ModelVersion | None:
        """The version that serves; None before the first promotion."""
        version = self._by_alias(self.name, CHAMPION)
        return None if version is None else noun(version)

    def promote(self, version: ModelVersion, verdict: Verdict, window: int | None = None) -> None:
        """Record the verdict, then move the alias: `models:/NAME@champion`."""
        self.record_verdict(version, verdict, window)
        self.client.set_registered_model_alias(version.name, CHAMPION, str(version.version))

    def appoint(self, version: ModelVersion) -> list[int]:
        """Make `version` the champion by hand; the numbers of those that this withdraws.

        Withdrawn is who is newer and has been champion, and who has learned from one of them. Those
        that an earlier call withdrew and this one does not are free again.
        """
        withdrawn: list[int] = []
        for found in self._registered():
            number, parent = int(found.version), noun(found).parent
            if number > version.version and (_was_champion(found) or parent in withdrawn):
                withdrawn = [*withdrawn, number]
                why = f"version {version.version} was made champion by hand"
                self.client.set_model_version_tag(self.name, str(number), WITHDRAWN, why)
            elif WITHDRAWN in found.tags:
                self.client.delete_model_version_tag(self.name, str(number), WITHDRAWN)
        self.promote(version, Verdict(True, ("by hand",)))
        return withdrawn

    def withdrawn(self) -> set[int]:
        """Numbers of the versions that may not become champion again but by hand."""
        return {int(found.version) for found in self._registered() if WITHDRAWN in found.tags}

    def record_verdict(
        self, version: ModelVersion, verdict: Verdict, window: int | None = None
    ) -> None:
        """Tags on the version and on its run. `window`: the exam (default: the one learned)."""
        exam = version.learned if window is None else window
        gap = verdict.difference
        record = {
            "window": exam,
            "promote": verdict.promote,
            "reasons": list(verdict.reasons),
            "difference": None if gap is None else [gap.value, gap.low, gap.high],
        }
        tags = {
            "verdict": "promoted" if verdict.promote else "held",
            "verdict.reasons": "; ".join(verdict.reasons)[:4900],
            f"verdict.{exam}": json.dumps(record),
        }
        for key, value in tags.items():
            self.client.set_model_version_tag(version.name, str(version.version), key, value)
            if version.run_id:
                self.client.set_tag(version.run_id, key, value)

    def verdict_of(self, version: ModelVersion, window: int) -> Verdict | None:
        """What was recorded for `version` on the exam `window`: a decision is made once."""
        found = self.client.get_model_version(version.name, str(version.version))
        text = found.tags.get(f"verdict.{window}")
        if text is None:
            return None
        record = json.loads(text)
        gap = None if record["difference"] is None else Estimate(*record["difference"])
        return Verdict(record["promote"], tuple(record["reasons"]), gap)

    def log_scores(
        self, version: ModelVersion, report: EvalReport, *, coverage: float | None = None
    ) -> None:
        """Put a window's metrics with intervals on the version's run, at step `report.window`.

        Logging the same report twice leaves one point: the time stamp is the run's own start.
        """
        if version.run_id is None:
            return
        values: dict[str, float] = {"users": float(report.users)}
        for name, found in report.metrics.items():
            values |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
        if coverage is not None:
            values["coverage@10"] = coverage
        points = {key: [(report.window, number)] for key, number in values.items()}
        self._log_points(version.run_id, points)

    def log_sweep(
        self, version: ModelVersion, rows: list[dict[str, Any]], figure: Figure, told: str
    ) -> None:
        """What the forms of a version cost and lose, beside its run; `told` is its tag `sweep`."""
        if version.run_id is not None:
            self.client.log_dict(version.run_id, {"forms": rows, "chosen": told}, "sweep.json")
            self.client.log_figure(version.run_id, figure, "sweep.png")
        self.client.set_model_version_tag(version.name, str(version.version), "sweep", told)

    def local_path(self, version: ModelVersion | str) -> str:
        """A folder with the version's files, for `models:/NAME@champion`, `models:/NAME/3`, a path.

        Local artefacts are used where they lie, remote ones are downloaded, once by each machine.
        """
        uri = version.uri if isinstance(version, ModelVersion) else str(version)
        if not uri.startswith("models:/"):
            return self._folder(uri, uri)
        name, alias, number = parsed(uri)
        found = self._by_alias(name, alias) if alias else self._by_number(name, number)
        if found is None:
            raise TrackingError(self._absent(uri, name, alias))
        source = self.client.get_model_version_download_uri(name, str(found.version))
        return self._folder(source, uri)

    def _registered(self) -> list[Registered]:
        found = self.client.search_model_versions(f"name = '{self.name}'", max_results=10_000)
        return sorted(found, key=lambda version: int(version.version))

    def _folder(self, source: str, asked: str) -> str:
        parts = urlparse(source)
        if parts.scheme not in ("", "file"):
            if source == asked:  # not of the registry: it may be another one next time
                return str(self._mlflow.artifacts.download_artifacts(source))
            return cached(f"{self.uri} {source}", partial(self._download, source))
        path = Path(unquote(parts.path))
        if not path.is_dir():
            hint = "if the run folder was moved, move it back"
            raise TrackingError(
                f"{asked} must be a folder with a model, got no folder {path}; {hint}"
            )
        return str(path)

    def _download(self, source: str, target: Path) -> None:
        with TemporaryDirectory(dir=target.parent) as made:
            Path(self._mlflow.artifacts.download_artifacts(source, dst_path=made)).rename(target)

    def _absent(self, uri: str, name: str, alias: str) -> str:
        models = sorted(model.name for model in self.client.search_registered_models())
        here = [version.version for version in self.versions()] if name == self.name else []
        got = f"versions {here}, none of them promoted" if alias and here else f"versions {here}"
        got = got if name in models else f"the models {models}"
        hint = "run jobs/replay.py into that folder first, or name one of those"
        return f"{uri} must be in the registry {self.uri}, which has {got}; {hint}"

    def _by_alias(self, name: str, alias: str) -> Registered | None:
        return _if_there(lambda: self.client.get_model_version_by_alias(name, alias))

    def _by_number(self, name: str, number: str) -> Registered | None:
        return _if_there(lambda: self.client.get_model_version(name, number))

    def _discard_attempts(self, window: int) -> None:
        """Delete the runs that a killed attempt at this window left without a version."""
        query = f"tags.model = '{self.name}' and tags.window = '{window}'"
        for run in self.client.search_runs([self._experiment], query):
            self.client.delete_run(run.info.run_id)
            remove_local(run)

    def _log_curves(self, run_id: str, curves: Mapping[str, Curve]) -> None:
        self._log_points(run_id, {name: list(points) for name, points in curves.items()})
        for name, points in curves.items():
            if points and "/" not in name:  # one of many layers: its points are enough
                self.client.log_figure(run_id, drawn(name, points), f"curves/{safe(name)}.png")

    def _log_points(self, run_id: str, points: Mapping[str, Curve]) -> None:
        from mlflow.entities import Metric

        moment = self.client.get_run(run_id).info.start_time
        metrics = [
            Metric(safe(name), float(value), moment, int(step))
            for name, curve in points.items()
            for step, value in curve
            if value == value  # NaN: nothing was measured
        ]
        for start in range(0, len(metrics), 1000):
            self.client.log_batch(run_id, metrics[start : start + 1000])


def _was_champion(version: Registered) -> bool:
    records = (v for k, v in version.tags.items() if re.fullmatch(r"verdict\.-?\d+", k))
    return any(json.loads(record)["promote"] for record in records)


def _if_there(ask: Callable[[], Registered]) -> Registered | None:
    from mlflow.exceptions import MlflowException

    try:
        return ask()
    except MlflowException as error:
        if error.error_code in ABSENT:
            return None
        raise
