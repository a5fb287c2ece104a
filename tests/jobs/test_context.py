"""How jobs are started, and what a run folder keeps of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from jobs import ingest, replay, vacuum
from jobs.context import _kept_mapping
from recsys_lib.errors import SettingsError
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
