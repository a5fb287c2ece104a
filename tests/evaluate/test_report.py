from __future__ import annotations

from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path

from recsys_lib.evaluate.plots import pictures
from recsys_lib.evaluate.report import html, table, verdict_word, write_report
from recsys_lib.evaluate.summary import RunSummary, WindowSummary, to_json
from recsys_lib.types import Estimate, EvalReport
from tests.evaluate.runs import small_run


class Page(HTMLParser):
    """Collects what a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in ("img", "script", "link", "iframe"):
            self.fetched.append(f"{tag} {values.get('src') or values.get('href')}")


def test_table_tells_the_run_window_by_window() -> None:
    lines = table(small_run()).splitlines()
    head = "window   rows  quarantined  stale model  popularity  personal frequency"
    assert lines[0].split("  incremental")[0] == head
    assert len({len(line) for line in lines}) == 1
    assert lines[2].split() == ["3", "1,000", "100", "-", "-", "-", "-", "first", "version", "64"]
    assert lines[3].split()[3:] == ["0.1600", "0.0700", "0.1650", "0.1800", "promoted", "v1", "13"]
    assert "no rows landed" in lines[4]
    assert lines[-1].split()[:3] == ["f1@10", "1,200", "110"]
    assert "1 promoted" in lines[-1]


def test_sessions_are_told_by_their_own_metric_in_the_page_too() -> None:
    found = {"mrr@20": Estimate(0.3, 0.2, 0.4), "recall@20": Estimate(0.6, 0.5, 0.7)}
    reports = {"candidate": EvalReport("candidate", 4, 60, found, {})}
    window = WindowSummary(4, reports=reports, coverage={"candidate": 0.5})
    run = RunSummary("x", "sessions", (window,), metric="mrr@20")
    page = html(run)
    assert table(run).splitlines()[-1].split()[0] == "mrr@20"
    assert "MRR@20, incremental" in page
    assert "<h2>MRR@20 by window</h2>" in page
    assert "<th>recall@20</th>" in page
    assert "MRR@20, scored before the window was learned" in pictures(run)


def test_candidate_that_is_the_champion_already_is_said_so() -> None:
    _, judged, *_ = small_run().windows
    assert verdict_word(replace(judged, verdict=None, champion=judged.candidate)) == "is champion"


def test_report_is_written_as_json_and_as_a_page_that_fetches_nothing(tmp_path: Path) -> None:
    data, page = write_report(small_run(), tmp_path / "run")
    assert data.read_text().strip() == to_json(asdict(small_run()))
    text = page.read_text()
    parser = Page()
    parser.feed(text)
    assert parser.fetched == []
    assert text.count("<svg") == len(pictures(small_run())) == 6
    assert "better &lt;on&gt; 60 users" in text
    assert "window 5</b>: no rows landed" in text


def test_pictures_without_data_are_left_out() -> None:
    run = RunSummary("x", "y", (WindowSummary(3, rows=5, kept=5),))
    assert list(pictures(run)) == ["Rows landed, and why rows went to quarantine"]


def test_run_that_did_nothing_yet_can_be_reported() -> None:
    run = RunSummary("x", "y", ())
    assert "no version yet" in html(run)
    assert table(run).splitlines()[0].split()[0] == "window"
