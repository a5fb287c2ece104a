"""report.json, report.html and the table in the terminal, all from one RunSummary."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from dataclasses import asdict
from html import escape
from typing import TYPE_CHECKING, TypeVar

from recsys_lib.evaluate.plots import label, named, pictures
from recsys_lib.evaluate.summary import RunSummary, WindowSummary, to_json, value_of
from recsys_lib.types import Place

if TYPE_CHECKING:
    from matplotlib.figure import Figure

P = TypeVar("P", bound=Place)

COLUMNS = ("stale", "stale_weights", "popularity", "personal_frequency", "candidate")
"""Scorers of the table, where they were judged."""


def write_report(summary: RunSummary, out: P) -> tuple[P, P]:
    """Write `out`/report.json and `out`/report.html; the second needs no other file."""
    out.mkdir(parents=True, exist_ok=True)
    data, page = out / "report.json", out / "report.html"
    data.write_text(to_json(asdict(summary)) + "\n", encoding="utf-8")
    page.write_text(html(summary), encoding="utf-8")
    return data, page


def table(summary: RunSummary) -> str:
    """Window by window: the metric of each scorer, the verdict, and the seconds it all took."""
    rows = _rows(summary)
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines = ["  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    rule = "-" * len(lines[0])
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def verdict_word(window: WindowSummary) -> str:
    """What became of the candidate of this window, in a word or two."""
    if window.verdict is None:
        first = window.learned and not window.reports and window.candidate is None
        same = window.reports and window.candidate == window.champion
        word = "first version" if first else "is champion" if same else "-"
        return window.note or word
    return f"promoted v{window.candidate}" if window.verdict.promote else "held"


def html(summary: RunSummary) -> str:
    """The report as one page: figures are drawn into it, nothing is fetched."""
    plots = "".join(
        f"<figure><figcaption>{escape(title)}</figcaption>{_svg(figure)}</figure>"
        for title, figure in pictures(summary).items()
    )
    settings = to_json({"settings": summary.settings, "versions": summary.versions})
    return f"""<!doctype html>
<html lang=en>
<head><meta charset=utf-8><title>Alluvium: {escape(summary.name)}</title>
<style>{_STYLE}</style></head>
<body>
<header><p class=kind>Alluvium run report</p><h1>{escape(summary.name)}</h1>
<p>{escape(_story(summary))}</p></header>
<section class=cards>{"".join(_cards(summary))}</section>
<section><h2>{named(summary.metric)} by window</h2>{_table(_rows(summary))}
<p class=small>{_LEGEND}</p></section>
<section><h2>Over all windows</h2>{_table(_overall(summary))}</section>
<section>{plots}</section>
<section><h2>Verdicts</h2><ul>{"".join(_verdicts(summary))}</ul></section>
<section><details><summary>Settings and versions</summary><pre>{escape(settings)}</pre></details>
</section>
</body>
</html>
"""


def _rows(summary: RunSummary) -> list[list[str]]:
    """Cells of the table: a head, a row for each window, a row of means."""
    metric = summary.metric
    scorers = [name for name in COLUMNS if name in summary.scorers()]
    head = ["window", "rows", "quarantined", *map(label, scorers), "verdict", "seconds"]
    body = [
        [
            str(window.window),
            f"{window.rows:,}",
            f"{sum(window.quarantined.values()):,}",
            *(_number(value_of(window, name, metric)) for name in scorers),
            verdict_word(window),
            f"{sum(window.seconds.values()):,.0f}",
        ]
        for window in summary.windows
    ]
    promoted = sum(1 for w in summary.windows if w.verdict and w.verdict.promote)
    foot = [
        metric,
        f"{sum(w.rows for w in summary.windows):,}",
        f"{sum(sum(w.quarantined.values()) for w in summary.windows):,}",
        *(_number(summary.mean(name, metric)) for name in scorers),
        f"{promoted} promoted",
        f"{sum(sum(w.seconds.values()) for w in summary.windows):,.0f}",
    ]
    return [head, *body, foot]


def _overall(summary: RunSummary) -> list[list[str]]:
    metrics = ["precision@10", "recall@10", "f1@10", "ndcg@10", "hit@10", "mrr@10"]
    sessions = [] if summary.metric in metrics else [summary.metric, "recall@20"]
    metrics = [*sessions, *metrics, "new:f1@10", "new:ndcg@10"]
    shown = [
        m for m in metrics if any(not math.isnan(summary.mean(s, m)) for s in summary.scorers())
    ]
    covered = {
        name: [w.coverage[name] for w in summary.windows if name in w.coverage]
        for name in summary.scorers()
    }
    rows = [["scorer", *shown, "coverage@10"]]
    for name, shares in covered.items():
        share = _number(sum(shares) / len(shares)) if shares else "-"
        rows.append([label(name), *(_number(summary.mean(name, m)) for m in shown), share])
    return rows


def _story(summary: RunSummary) -> str:
    last = summary.windows[-1].window if summary.windows else 0
    champion = f"version {summary.champion}" if summary.champion else "no version yet"
    return (
        f"{summary.data}: {len(summary.windows)} increments up to window {last}; "
        f"{len(summary.judged)} of them judged. Champion: {champion}."
    )


def _cards(summary: RunSummary) -> Iterable[str]:
    ours, stale = (summary.mean(name, summary.metric) for name in ("candidate", "stale"))
    gain = f"{ours / stale - 1:+.1%} against the stale model" if stale > 0 else ""
    rows = sum(window.rows for window in summary.windows)
    lost = sum(sum(window.quarantined.values()) for window in summary.windows)
    judged = [window.verdict for window in summary.windows if window.verdict]
    promoted = sum(1 for verdict in judged if verdict.promote)
    spent = sum(sum(window.seconds.values()) for window in summary.windows)
    yield _card(f"{named(summary.metric)}, incremental", _number(ours), gain)
    yield _card("rows landed", f"{rows:,}", f"{lost:,} in quarantine")
    yield _card("promotions", f"{promoted}", f"of {len(judged)} candidates judged")
    yield _card("wall time", f"{spent / 60:,.1f} min", f"{len(summary.windows)} increments")


def _card(name: str, value: str, more: str) -> str:
    return f"<div><p>{escape(name)}</p><b>{escape(value)}</b><p>{escape(more)}</p></div>"


def _table(rows: list[list[str]]) -> str:
    head, *body = rows
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    cells = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in body]
    parts = f"<thead><tr>{top}</tr></thead><tbody><tr>{'</tr><tr>'.join(cells)}</tr></tbody>"
    return f"<div class=wide><table>{parts}</table></div>"


def _verdicts(summary: RunSummary) -> Iterable[str]:
    for window in summary.windows:
        if window.verdict is not None:
            reasons = "; ".join(window.verdict.reasons)
            word = verdict_word(window)
            yield f"<li><b>window {window.window}, {escape(word)}</b>: {escape(reasons)}</li>"
        elif window.note:
            yield f"<li><b>window {window.window}</b>: {escape(window.note)}</li>"


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


_LEGEND = """The stale model is the first version as it was shipped, weights and state; with fresh
state it sees the histories, items and counts of the day. F1@10 is the harmonic mean of mean
precision and mean recall. All items are ranked, and each window was scored before it was learned.
Last row: mean over windows."""

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#22303c;background:#f6f7f9;margin:0 auto;
max-width:1080px;padding:32px 20px 64px}
h1{margin:0;font-size:30px}h2{font-size:18px;margin:0 0 10px}
header p{margin:4px 0}.kind{color:#d1495b;font-weight:600;font-size:13px}
section{background:#fff;border:1px solid #e3e7ec;border-radius:10px;padding:20px;margin:18px 0}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(200px,1fr));gap:14px;padding:0;
background:none;border:0}
.cards div{background:#fff;border:1px solid #e3e7ec;border-radius:10px;padding:14px 18px}
.cards p{margin:0;color:#667484;font-size:13px}.cards b{font-size:26px}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:5px 10px;text-align:right;white-space:nowrap;font-size:13.5px}
th{color:#667484;font-weight:600;border-bottom:2px solid #e3e7ec;
white-space:normal;vertical-align:bottom}
td{border-bottom:1px solid #eef1f4}tbody tr:hover{background:#f6f9fb}
th:first-child,td:first-child{text-align:left}
.small{color:#667484;font-size:13px;margin-bottom:0}
figure{margin:0 0 26px}figcaption{font-weight:600;margin-bottom:6px}
figure svg{width:100%;height:auto}
ul{padding-left:18px;margin:0}li{margin:5px 0;font-size:14px}pre{overflow:auto;font-size:12.5px}
summary{cursor:pointer;font-weight:600}
"""
