"""How jobs are started, and what a run folder keeps of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from jobs import evaluate, ingest, promote, recommend, replay, train, vacuum, write_back
from jobs.context import Context, _kept_mapping, parser, settings_of
from recsys_lib.adapters.lake import Lake
from recsys_lib.errors import LakeError, SettingsError
from recsys_lib.mapping import load_mapping
from recsys_lib.settings import Settings
from tests.jobs import shop


@pytest.mark.parametrize("sign", ["landing/staging/_manifest.json", "lake/bronze"])
def test_a_mapping_can_be_corrected_until_something_has_landed_by_it(
    tmp_path: Path, sign: str
) -> None:
    out, file = tmp_path / "out", tmp_path / "m.yaml"

    def given(**changes: object) -> str:
        told = str(shop.write_mapping(file, **changes))
        return _kept_mapping(out, told, str(out / "lake")).user

    assert given(user="visitr") == "visitr"
    assert given(user="visitor") == "visitor"
    assert _kept_mapping(out, None, str(out / "lake")).user == "visitor"
    (out / sign).mkdir(parents=True)
    assert given(user="visitor") == "visitor"
    with pytest.raises(SettingsError, match="another mapping; use it again, or another --out"):
        given(user="visitr")


@pytest.mark.parametrize("out", ["2024", "my run #2", "a: b", "null"])
def test_the_run_folder_is_called_as_the_command_line_says(out: str) -> None:
    args = parser(None).parse_args(["--out", out, "--set", "run.seed=3", "--set", "run.out=other"])
    run = settings_of(args).run
    assert (run.out, run.seed) == (out, 3)


@pytest.mark.parametrize(
    ("main", "options", "least"),
    [
        (ingest.main, ["--events", "e", "--mapping", "m", "--windows", "0"], 1),
        (replay.main, ["--events", "e", "--mapping", "m", "--weeks", "-1"], 0),
        (vacuum.main, ["--hours", "-5"], 0),
    ],
    ids=["ingest", "replay", "vacuum"],
)
def test_a_number_that_means_nothing_is_refused_before_anything_is_opened(
    main: Callable[[list[str]], None],
    options: list[str],
    least: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(options)
    assert f"must be at least {least}, got {options[-1]}" in capsys.readouterr().err


def impatient(
    job: ModuleType, lake: Lake, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Context:
    """The job opens this run, in which nobody waits for another."""
    settings = Settings.model_validate({"lake": {"wait_seconds": 0}})
    mapping = load_mapping(shop.write_mapping(folder / "m.yaml"))
    replayed: Any = None
    context = Context(settings, mapping, folder, lake.spark, lake, replayed)
    monkeypatch.setattr(job, "opened", lambda *_: nullcontext(context))
    return context


@pytest.mark.parametrize(
    ("job", "options"),
    [
        (train, []),
        (evaluate, ["--window", "4"]),
        (promote, ["--window", "4"]),
        (recommend, []),
        (write_back, []),
    ],
)
def test_a_job_that_learns_judges_or_writes_waits_for_who_has_the_models(
    job: ModuleType,
    options: list[str],
    lake: Lake,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context = impatient(job, lake, tmp_path, monkeypatch)
    with (
        context.alone("land"),  # goes on meanwhile
        context.alone_with_models("turn"),
        pytest.raises(LakeError, match=r"but turn \(process"),
    ):
        job.main(options)


def test_a_vacuum_waits_for_who_writes_to_the_lake_and_for_who_has_the_models(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = impatient(vacuum, lake, tmp_path, monkeypatch)
    for lock, job in ((context.alone, "land"), (context.alone_with_models, "recommend")):
        with lock(job), pytest.raises(LakeError, match=rf"but {job} \(process"):
            vacuum.main(["--hours", "0"])
