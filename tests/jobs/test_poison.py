"""An increment that one bot has filled is refused by the gate, and never learned again."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tests.jobs import shop, tables
from tests.jobs.conftest import Shop
from tests.jobs.launch import run

pytestmark = pytest.mark.slow


def test_what_a_bot_has_filled_is_refused_with_the_reason_and_left_out_of_the_next_lesson(
    made_shop: Shop, tmp_path: Path
) -> None:
    rng = random.Random(5)
    bot = [
        shop.event(f"bot{n}", "bot", f"i{rng.randrange(1, 100)}", 4 * shop.DAYS + n / 1000)
        for n in range(2900)
    ]
    log = shop.write_csv(tmp_path / "log.csv", [*shop.events(), *bot])
    ended = run("replay", *made_shop.replay_args(log, tmp_path / "out", 2), log=tmp_path / "replay")
    assert ended.code == 0, ended.said
    windows = tables.windows(tmp_path / "out")
    verdict = windows[5]["verdict"]
    assert verdict["promote"] is False
    assert any("increment 4" in text and "one user's" in text for text in verdict["reasons"])
    lineage = json.loads((tmp_path / "out" / "models" / "window-5" / "model.json").read_text())
    assert lineage["lineage"]["without"] == [4]
    assert not any("increment 4" in text for text in windows[6]["verdict"]["reasons"])
