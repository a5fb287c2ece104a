from __future__ import annotations

from collections.abc import Callable

import pytest

from jobs import ingest, replay, vacuum


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
