"""Who becomes champion, by exams of a real store; nothing is learned here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobs import promote as job
from jobs.evaluate import Scores, _roles
from jobs.promote import by_hand, promote
from recsys_lib.adapters.tracking import Tracking
from recsys_lib.errors import TrackingError
from recsys_lib.settings import Settings, TrackingSettings
from recsys_lib.types import ModelVersion, Verdict

FIRST = Verdict(True, ("there is no champion yet",))
BETTER = Verdict(True, ("better", "promoted"))
WORSE = Verdict(False, ("not proven better", "the champion stays"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture
def context(folder: Path, request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A model name of its own for each test, in one store: making a store costs seconds."""
    tracking = Tracking(TrackingSettings(), folder, request.node.name)
    lake = SimpleNamespace(small=lambda _: [])
    return SimpleNamespace(tracking=tracking, settings=Settings(), lake=lake, out=tmp_path / "out")


@pytest.fixture
def learned(context: Any, tmp_path: Path) -> Callable[..., ModelVersion]:
    def learn(window: int, parent: int | None = None) -> ModelVersion:
        (tmp_path / "model.json").write_text(json.dumps({"window": window}))
        found: ModelVersion = context.tracking.log_version(window, tmp_path, parent=parent)
        return found

    return learn


def sat(candidate: ModelVersion, champion: ModelVersion) -> Scores:
    """An exam to which nobody came: only what was recorded can promote."""
    roles = {"candidate": candidate.version, "champion": champion.version, "stale_weights": 1}
    return Scores(roles, {}, {}, {})


def test_an_exam_that_is_repeated_does_not_undo_a_later_one(
    context: Any, learned: Callable[..., ModelVersion]
) -> None:
    one, two, three = learned(1), learned(2), learned(3)
    context.tracking.promote(one, FIRST)
    context.tracking.promote(two, BETTER, 3)
    context.tracking.promote(three, BETTER, 4)
    assert promote(context, 3, sat(two, one)) == BETTER, "what was decided then"
    assert context.tracking.champion() == three


def test_an_exam_whose_verdict_comes_late_holds(
    context: Any, learned: Callable[..., ModelVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "judge", lambda *told: Verdict(not told[3], tuple(told[3])))
    one, two, three = learned(1), learned(2), learned(3)
    context.tracking.promote(one, FIRST)
    context.tracking.promote(three, BETTER, 4)
    verdict = promote(context, 3, sat(two, one))
    assert verdict == Verdict(False, ("version 3 has become the champion since the exam",))
    assert context.tracking.champion() == three


def test_a_verdict_whose_alias_did_not_move_before_a_kill_is_obeyed_by_the_repeat(
    context: Any, learned: Callable[..., ModelVersion]
) -> None:
    one, two = learned(1), learned(2)
    context.tracking.promote(one, FIRST)
    context.tracking.record_verdict(two, BETTER, 3)
    for _ in range(2):
        assert promote(context, 3, sat(two, one)) == BETTER
        assert context.tracking.champion() == two


@pytest.mark.parametrize("window", [1, 5])
def test_nobody_is_judged_on_what_the_champion_has_learned(
    context: Any, learned: Callable[..., ModelVersion], window: int
) -> None:
    learned(4)
    context.tracking.promote(learned(5), FIRST)
    wanted = rf"window {window} must be one .* version 2 has learned up to 5; evaluate a later"
    with pytest.raises(TrackingError, match=wanted):
        _roles(context, window)
    assert not context.out.exists(), "nothing is written down of it"


def test_an_exam_that_was_begun_is_ended_whoever_is_champion_by_now(
    context: Any, learned: Callable[..., ModelVersion]
) -> None:
    context.tracking.promote(learned(4), FIRST)
    roles = _roles(context, 5)
    context.tracking.promote(learned(5), BETTER, 6)
    assert _roles(context, 5) == roles


def test_back_by_hand_says_what_was_champion_and_who_is_withdrawn(
    context: Any, learned: Callable[..., ModelVersion]
) -> None:
    tracking, one = context.tracking, learned(1)
    two, three = learned(2, parent=1), learned(3, parent=2)
    tracking.promote(one, FIRST)
    tracking.promote(two, BETTER, 3)
    said = by_hand(context, 1)
    assert tracking.champion() == one
    assert tracking.verdict_of(one, one.learned).reasons == ("by hand",)
    assert tracking.withdrawn() == {two.version, three.version}
    for words in ("champion: version 1, by hand; before: version 2", "2, 3", "jobs/recommend.py"):
        assert words in said
    with pytest.raises(TrackingError, match="must have a version 9, got 1, 2, 3"):
        by_hand(context, 9)


def test_who_was_withdrawn_comes_back_neither_by_an_old_exam_nor_into_the_next_one(
    context: Any, learned: Callable[..., ModelVersion]
) -> None:
    tracking, one = context.tracking, learned(1)
    two = learned(2, parent=1)
    tracking.promote(one, FIRST)
    tracking.promote(two, BETTER, 3)
    by_hand(context, 1)
    assert promote(context, 3, sat(two, one)) == BETTER
    assert tracking.champion() == one
    assert _roles(context, 4)["candidate"] == one.version
    four = learned(4, parent=1)
    assert _roles(context, 5)["candidate"] == four.version


def test_a_version_that_was_held_stays_a_candidate_beside_an_older_champion(
    context: Any, learned: Callable[..., ModelVersion]
) -> None:
    tracking, one = context.tracking, learned(1)
    held = learned(2, parent=1)
    tracking.promote(one, FIRST)
    tracking.record_verdict(held, WORSE, 3)
    by_hand(context, 1)
    assert tracking.withdrawn() == set()
    assert _roles(context, 3)["candidate"] == held.version


def test_forward_by_hand_frees_who_was_withdrawn(
    context: Any, learned: Callable[..., ModelVersion]
) -> None:
    tracking, one = context.tracking, learned(1)
    two, three = learned(2, parent=1), learned(3, parent=2)
    tracking.promote(one, FIRST)
    tracking.promote(two, BETTER, 3)
    by_hand(context, 1)
    by_hand(context, 2)
    assert tracking.champion() == two
    assert tracking.withdrawn() == set()
    assert _roles(context, 4)["candidate"] == three.version


def test_a_version_by_hand_and_an_exam_exclude_each_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for options, wanted in (([], "required"), (["--window", "4", "--version", "1"], "not allowed")):
        with pytest.raises(SystemExit):
            job.main(options)
        assert wanted in capsys.readouterr().err
