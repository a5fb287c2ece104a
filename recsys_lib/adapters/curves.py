"""A learning curve as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def drawn(name: str, points: Sequence[tuple[int, float]]) -> Figure:
    """`points` are (step, value). Made without pyplot: no display, nothing kept in memory."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    steps, values = zip(*points, strict=True)
    axes.plot(steps, values, color="#2f6f8f", linewidth=1.8, marker="o" if len(steps) < 3 else "")
    axes.set_title(name, loc="left", fontsize=11)
    axes.set_xlabel("step")
    axes.grid(axis="y", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
