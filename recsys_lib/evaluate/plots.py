"""The pictures of the report. Made without pyplot: no display is needed, no state is kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from recsys_lib.evaluate.summary import RunSummary, value_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELS = {
    "stale": "stale model",
    "stale_weights": "stale weights, fresh state",
    "popularity": "popularity",
    "personal_frequency": "personal frequency",
    "recency_frequency": "recency-weighted frequency",
    "candidate": "incremental model",
    "champion": "champion",
}
COLORS = {
    "stale": "#7a8598",
    "stale_weights": "#4db6ac",
    "popularity": "#c8a13a",
    "personal_frequency": "#5b9e6f",
    "recency_frequency": "#8e6bbf",
    "candidate": "#d1495b",
    "champion": "#2f6f8f",
}
NAMES = {"f1": "F1", "mrr": "MRR", "ndcg": "nDCG"}
CYCLE = ("#2f6f8f", "#c8a13a", "#5b9e6f", "#8e6bbf", "#d1495b", "#7a8598", "#4db6ac", "#b0785a")
SMALL = 9


def label(scorer: str) -> str:
    """A scorer's name as people say it."""
    return LABELS.get(scorer, scorer.replace("_", " "))


def named(metric: str) -> str:
    """A metric's name as people write it: mrr@20 is MRR@20."""
    kind, _, depth = metric.partition("@")
    return f"{NAMES.get(kind, kind)}@{depth}"


def pictures(summary: RunSummary) -> dict[str, Figure]:
    """Title -> figure, in the order of the report; a picture without data is left out."""
    out: dict[str, Figure] = {}
    for metric, title in (
        (summary.metric, f"{named(summary.metric)}, scored before the window was learned"),
        ("ndcg@10", "nDCG@10"),
        ("new:f1@10", "F1@10 among items new to the user"),
    ):
        if any(not math.isnan(summary.mean(name, metric)) for name in summary.scorers()):
            out[title] = metric_by_window(summary, metric)
    if any(window.rows for window in summary.windows):
        out["Rows landed, and why rows went to quarantine"] = rows_by_window(summary)
    if any(window.seconds for window in summary.windows):
        out["Seconds by stage"] = seconds_by_window(summary)
    if any(window.model for window in summary.windows):
        out["Sparsity and size of each version"] = size_by_window(summary)
    return out


def metric_by_window(summary: RunSummary, metric: str) -> Figure:
    """A line a scorer, intervals by user as a band; a star where the candidate was promoted."""
    figure, [axes] = _figure()
    ends: list[tuple[float, str]] = []
    for scorer in summary.scorers():
        windows = [w for w in summary.judged if not math.isnan(value_of(w, scorer, metric))]
        if not windows:
            continue
        found = [window.reports[scorer].metrics[metric] for window in windows]
        places = [window.window for window in windows]
        values = [estimate.value for estimate in found]
        color, ours = COLORS.get(scorer, "#444444"), scorer == "candidate"
        width, order = (2.4, 5) if ours else (1.5, 3)
        axes.plot(
            places, values, color=color, linewidth=width, marker="o", markersize=3.5, zorder=order
        )
        lows, highs = [e.low for e in found], [e.high for e in found]
        axes.fill_between(
            places, lows, highs, color=color, alpha=0.16 if ours else 0.09, linewidth=0
        )
        ends.append((values[-1], scorer))
        if ours:
            starred = [w for w in windows if w.verdict and w.verdict.promote]
            heights = [value_of(w, scorer, metric) for w in starred]
            marks = [w.window for w in starred]
            axes.scatter(
                marks, heights, s=130, color=color, marker="*", edgecolor="white", zorder=6
            )
    _name_ends(axes, ends, max((w.window for w in summary.judged), default=0))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("window   (band: interval by user; star: the incremental model was promoted)")
    _whole_ticks(axes)
    return figure


def rows_by_window(summary: RunSummary) -> Figure:
    """Left: rows kept and quarantined by window. Right: reasons over all windows."""
    figure, (left, right) = _figure(columns=2)
    places = [str(window.window) for window in summary.windows]
    kept = [window.kept for window in summary.windows]
    lost = [sum(window.quarantined.values()) for window in summary.windows]
    left.bar(places, kept, color="#2f6f8f", label="silver")
    left.bar(places, lost, bottom=kept, color="#d1495b", label="quarantine")
    _clip_tallest(left, [k + n for k, n in zip(kept, lost, strict=True)], "rows")
    left.legend(frameon=False, fontsize=SMALL, loc="upper right", ncols=2)
    left.set_xlabel("window")
    left.set_title("rows", loc="left", fontsize=10)
    _thin_labels(left, len(places))
    totals: dict[str, int] = {}
    for window in summary.windows:
        for reason, count in window.quarantined.items():
            totals[reason] = totals.get(reason, 0) + count
    worst = sorted(totals.items(), key=lambda pair: pair[1])[-10:]
    names = [reason.replace("_", " ") for reason, _ in worst]
    right.barh(names, [count for _, count in worst], color="#d1495b", height=0.6)
    for place, (_, count) in enumerate(worst):
        right.text(count, place, f" {count:,}", va="center", fontsize=SMALL)
    right.set_title(
        "quarantined rows by reason" if worst else "no row was quarantined", loc="left", fontsize=10
    )
    right.margins(x=0.2)
    right.grid(visible=False)
    right.set_xticks([])
    right.spines["bottom"].set_visible(False)
    return figure


def seconds_by_window(summary: RunSummary) -> Figure:
    """Stacked bars: where the wall time of each window went."""
    figure, [axes] = _figure()
    fullest = sorted(summary.windows, key=lambda window: -len(window.seconds))
    stages = list(dict.fromkeys(stage for window in fullest for stage in window.seconds))
    places = [str(window.window) for window in summary.windows]
    base = [0.0] * len(places)
    for number, stage in enumerate(stages):
        spent = [window.seconds.get(stage, 0.0) for window in summary.windows]
        axes.bar(
            places, spent, bottom=base, label=stage, color=CYCLE[number % len(CYCLE)], width=0.75
        )
        base = [below + here for below, here in zip(base, spent, strict=True)]
    _clip_tallest(axes, base, "s")
    axes.legend(
        frameon=False, fontsize=SMALL, loc="center left", bbox_to_anchor=(1.0, 0.5), reverse=True
    )
    axes.set_xlabel("window")
    axes.set_ylabel("seconds")
    _thin_labels(axes, len(places))
    return figure


def size_by_window(summary: RunSummary) -> Figure:
    """Every number of `WindowSummary.model` on axes of its own."""
    windows = [window for window in summary.windows if window.model]
    names = list(dict.fromkeys(name for window in windows for name in window.model))[:4]
    figure, axes = _figure(columns=len(names))
    for number, (name, each) in enumerate(zip(names, axes, strict=True)):
        places = [w.window for w in windows if name in w.model]
        values = [w.model[name] for w in windows if name in w.model]
        each.plot(places, values, color=CYCLE[number], linewidth=2, marker="o", markersize=3.5)
        each.set_title(name.replace("_", " "), loc="left", fontsize=10)
        each.set_ylim(bottom=0, top=1.15 * max(values) if max(values) > 0 else 1)
        each.yaxis.set_major_formatter(_short_numbers)
        each.set_xlabel("window learned")
        _whole_ticks(each)
    return figure


def _figure(columns: int = 1) -> tuple[Figure, list[Axes]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.0, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = [figure.add_subplot(1, columns, place + 1) for place in range(columns)]
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.grid(axis="y", alpha=0.25)
        each.set_axisbelow(True)
        each.tick_params(labelsize=SMALL)
    return figure, axes


def _name_ends(axes: Axes, ends: list[tuple[float, str]], last: int) -> None:
    """Names at the right end of the lines, pushed apart where they would overlap."""
    low, high = 0.0, axes.get_ylim()[1]
    step, floor = 0.06 * (high - low), -math.inf
    for value, scorer in sorted(ends):
        floor = max(value, floor + step)
        weight = "bold" if scorer == "candidate" else "normal"
        color = COLORS.get(scorer, "#444444")
        axes.annotate(
            label(scorer),
            (last, floor),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize=SMALL + 0.5,
            color=color,
            fontweight=weight,
            annotation_clip=False,
        )


def _clip_tallest(axes: Axes, heights: list[float], unit: str) -> None:
    """Cut off a bar that would flatten all others, as the history's does, and say its height."""
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    if len(heights) < 3:
        return
    second, top = sorted(heights)[-2:]
    limit = 1.3 * second
    if 0 < 2.5 * second < top:
        place = heights.index(top)
        axes.set_ylim(0, limit)
        note = f" to {top:,.0f} {unit}"
        axes.text(place + 0.5, 0.985 * limit, note, ha="left", va="top", fontsize=SMALL)


def _whole_ticks(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=14))


def _thin_labels(axes: Axes, count: int) -> None:
    """At most about sixteen labels under the bars."""
    every = max(1, math.ceil(count / 16))
    axes.set_xticks(range(0, count, every))


def _short_numbers(value: float, _: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g} {unit}"
    return f"{value:g}"


class Costed(Protocol):
    """A form of a model with its cost (p50 in seconds, size in bytes) and quality."""

    @property
    def name(self) -> str: ...
    @property
    def p50(self) -> float: ...
    @property
    def size(self) -> int: ...
    @property
    def f1(self) -> float: ...


def frontier(forms: Sequence[Costed]) -> Figure:
    """F1@10 over the time of an answer; a point is as large as the form's files."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    largest = max(form.size for form in forms)
    for place, form in enumerate(forms):
        color = CYCLE[place % len(CYCLE)]
        area = 30 + 300 * form.size / largest
        axes.scatter(form.p50 * 1e3, form.f1, s=area, color=color, alpha=0.8, label=form.name)
    axes.set(xscale="log", xlabel="milliseconds of an answer, p50", ylabel="F1@10")
    axes.legend(fontsize=SMALL - 1, markerscale=0.5, frameon=False)
    return figure
