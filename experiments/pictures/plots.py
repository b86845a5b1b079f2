"""Plots in one style: matplotlib figures that need no display."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

DOTS_PER_INCH = 120


def figure(rows: int, columns: int, size: tuple[float, float], **options: Any) -> tuple[Figure, Any]:
    """A figure of ``size`` inches and its axes, without the top and right lines."""
    page = Figure(figsize=size, dpi=DOTS_PER_INCH, layout="constrained")
    axes = page.subplots(rows, columns, **options)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    return page, axes
