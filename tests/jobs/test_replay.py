from __future__ import annotations

import re
from collections import Counter

import pytest

from jobs.replay import EMPTY, NOTHING, _only_judged, headline
from recsys_lib.evaluate.summary import WindowSummary
from tests.jobs import tables
from tests.jobs.conftest import Finished
from tests.jobs.launch import run

pytestmark = pytest.mark.slow

SCORERS = {"candidate", "champion", "stale", "popularity", "personal_frequency"}
METRICS = {f"{name}@{k}" for name in ("precision", "recall", "f1", "ndcg", "hit") for k in (10, 20)}


def test_report_tells_rows_metrics_verdicts_and_seconds_of_every_window(
    finished: Finished,
) -> None:
    windows = tables.windows(finished.out)
    assert list(windows) == [3, 4, 5]
    assert windows[3]["learned"] == 1
    assert windows[3]["reports"] == {}
    for number in (4, 5):
        assert set(windows[number]["reports"]) >= SCORERS
        for exam in windows[number]["reports"].values():
            assert set(exam["metrics"]) >= METRICS
            assert exam["users"] > 20
        assert set(windows[number]["seconds"]) >= {"ingest", "score", "judge"}
        assert windows[number]["coverage"]["candidate"] > 0
    assert [windows[n]["learned"] for n in (4, 5)] == [2, None]
    assert windows[4]["verdict"] is None  # the only version there is
    assert isinstance(windows[5]["verdict"]["promote"], bool)
    assert windows[5]["verdict"]["reasons"]
    assert set(tables.report(finished.out)["overall"]) >= SCORERS


def test_rows_that_cannot_be_used_are_counted_by_reason(finished: Finished) -> None:
    windows = tables.windows(finished.out)
    assert (
        sum(window["rows"] for window in windows.values()) == tables.counts(finished.out)["bronze"]
    )
    found: Counter[str] = Counter()
    for window in windows.values():
        assert window["rows"] == window["kept"] + sum(window["quarantined"].values())
        found.update(window["quarantined"])
    wrong = {"missing_user": 1, "missing_item": 1, "bad_time": 1, "too_early": 1}
    assert {name: found[name] for name in wrong} == wrong
    assert set(found) <= {*wrong, "duplicate"}


def test_planted_habits_are_found_by_all_who_look_for_them(finished: Finished) -> None:
    last = tables.windows(finished.out)[5]["reports"]
    hit = {name: exam["metrics"]["hit@10"]["value"] for name, exam in last.items()}
    assert hit["personal_frequency"] > 0.9
    assert hit["candidate"] > 0.9
    assert hit["popularity"] < 0.9


def test_report_page_needs_no_other_file(finished: Finished) -> None:
    page = (finished.out / "report.html").read_text()
    assert "<svg" in page
    assert "candidate" in page
    assert not re.search(r"""(src|href)=["']?http""", page)


def test_every_row_of_bronze_is_in_silver_or_in_quarantine(finished: Finished) -> None:
    keys = {
        name: Counter(tables.table(finished.out, name).column("key").to_pylist())
        for name in ("bronze", "silver", "quarantine")
    }
    assert keys["bronze"] == keys["silver"] + keys["quarantine"]
    assert max(keys["silver"].values()) == 1


def test_everybody_gets_k_items_with_the_version_that_chose_them(finished: Finished) -> None:
    slates = tables.rows(finished.out, "recommendations")
    users = {row["user"] for row in tables.rows(finished.out, "histories")}
    champion = tables.client(finished.out).get_model_version_by_alias("alluvium", "champion")
    assert {row["user"] for row in slates} == users
    assert len(slates) == len(users)
    for row in slates:
        assert len(set(row["items"])) == 20
        assert row["scores"] == sorted(row["scores"], reverse=True)
        assert (row["model_version"], row["window"]) == (int(champion.version), 5)


def test_every_version_has_a_run_with_settings_metrics_and_size(finished: Finished) -> None:
    client, versions = tables.client(finished.out), tables.model_versions(finished.out)
    assert [version.tags["window"] for version in versions] == ["3", "4"]
    champion = client.get_model_version_by_alias("alluvium", "champion")
    assert champion.version in {version.version for version in versions}
    for version in versions:
        found = client.get_run(version.run_id)
        assert found.data.params["train.epochs"] == "2.0"
        assert found.data.params["run.seed"] == "7"
        assert found.data.metrics["bytes"] > 0
        assert found.data.metrics["examples"] > 0
        for name in METRICS | {"coverage@10"}:
            assert name.replace("@", "_at_") in found.data.metrics
        sparsity = found.data.metrics["sparsity"]
        assert sparsity == 0 if version.tags["window"] == "3" else 0 < sparsity <= 0.5
        assert version.tags["form"] == ("dense" if version.tags["window"] == "3" else "shrunk")
        assert 0 < found.data.metrics["serving_bytes"] < found.data.metrics["bytes"]


def test_terminal_shows_the_table_and_where_things_are(finished: Finished) -> None:
    for text in ("verdict", "popularity", "report.html", "models:/alluvium@champion"):
        assert text in finished.ended.out
    assert re.search(r"^ +4 +\d+", finished.ended.out, re.MULTILINE)
    assert finished.ended.err.strip() == ""


def test_a_version_comes_out_again_from_its_pinned_data(finished: Finished) -> None:
    before = tables.versions(finished.out)
    ended = run(
        "reproduce", "--out", finished.out, "--version", 2, log=finished.out.parent / "reproduce"
    )
    assert ended.code == 0, ended.said
    assert "largest difference" in ended.out
    assert tables.versions(finished.out) == before
    assert len(tables.model_versions(finished.out)) == 2


def test_same_command_again_changes_no_table_and_ends_soon(finished: Finished) -> None:
    before = (tables.versions(finished.out), tables.counts(finished.out))
    report = tables.report(finished.out)
    again = run("replay", *finished.args, log=finished.out.parent / "again")
    assert again.code == 0, again.said
    assert (tables.versions(finished.out), tables.counts(finished.out)) == before
    assert tables.report(finished.out) == report
    assert len(tables.model_versions(finished.out)) == 2
    assert again.seconds < finished.ended.seconds / 2


def test_a_task_is_told_by_a_metric_that_is_measured() -> None:
    assert headline("next_window", (10,)) == "f1@10"
    assert headline("next_item", (10, 20)) == "mrr@20"
    assert headline("next_item", (5, 10)) == "mrr@10"


@pytest.mark.parametrize(
    ("summary", "due"),
    [
        (WindowSummary(5), True),
        (WindowSummary(5, note="nobody to judge"), True),
        (WindowSummary(5, learned=2), False),
        (WindowSummary(5, note=EMPTY), False),
        (WindowSummary(5, note=f"nobody to judge, {NOTHING}"), False),
    ],
)
def test_window_that_was_only_judged_is_learned_when_more_weeks_are_asked_for(
    summary: WindowSummary, due: bool
) -> None:
    assert _only_judged(summary) is due
