"""A corner plot: each column's histogram, and every pair of columns, of samples over data."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.errors import printable
from experiments.pictures.grids import save_picture
from experiments.pictures.plots import DOTS_PER_INCH

MOST = 8
"""Columns that are shown: the first."""
POINTS = 2000
"""Of data, and of samples, in each panel of a pair."""
BINS = 30
SIDES = {1: 4.5, 2: 2.6, 3: 2.3}
"""Of a panel, in inches, by the number of columns."""
SIDE = 1.8
DATA, SAMPLES = "C0", "C1"


def save_corner(path: Path, samples: np.ndarray, data: np.ndarray | None, names: Sequence[str], title: str) -> None:
    """Draw samples ``(number, columns)`` in orange and data in blue, where there are any, with the columns' names.

    Panels of pairs show as many of one as of the other, in a mixed order: neither hides the other. Limits take in
    the middle 99 % of each. Rows that are not finite are not drawn. Errors: UserError where the picture cannot be
    written.
    """
    shown = min(MOST, samples.shape[1])
    sets = {SAMPLES: samples} if data is None else {DATA: data, SAMPLES: samples}
    sets = {color: rows[np.isfinite(rows).all(axis=1)][:, :shown] for color, rows in sets.items()}
    points, colors = _mixed(sets)
    limits = [_limits([rows[:, place] for rows in sets.values() if len(rows)]) for place in range(shown)]
    size = SIDES.get(shown, SIDE) * shown + 0.9
    page = Figure(figsize=(size, size), dpi=DOTS_PER_INCH)  # a layout that fits itself takes longer than to draw all
    edges = {"left": 0.7 / size, "bottom": 0.8 / size, "right": 1 - 0.2 / size, "top": 1 - 0.4 / size}
    panels = page.add_gridspec(shown, shown, **edges, wspace=0.08, hspace=0.08)
    for down in range(shown):
        for across in range(down + 1):
            axis = page.add_subplot(panels[down, across])
            axis.spines[["top", "right"]].set_visible(False)
            axis.locator_params(nbins=4)
            axis.tick_params(labelsize=7, labelbottom=down == shown - 1, labelleft=across == 0)
            axis.set(xlim=limits[across])
            if down == shown - 1:
                axis.set_xlabel(_label(names[across]), fontsize=8, parse_math=False)
            if across == down:
                axis.set(yticks=[])
                for color, rows in sets.items():
                    _histogram(axis, rows[:, down], limits[down], color)
                continue
            axis.set(ylim=limits[down])
            axis.scatter(points[:, across], points[:, down], s=4, c=colors, linewidths=0, alpha=0.6)
            if across == 0:
                axis.set_ylabel(_label(names[down]), fontsize=8, parse_math=False)
    said = {DATA: f"data: {len(sets.get(DATA, ()))} rows held out", SAMPLES: f"{len(samples)} samples"}
    handles = [Line2D([], [], marker="o", linestyle="", color=color, label=said[color]) for color in sets]
    page.legend(handles=handles, loc="lower center", ncols=2, frameon=False, fontsize=8)
    page.suptitle(title, parse_math=False, fontsize=10, x=0.5, y=1 - 0.08 / size, va="top")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # names in letters that no font has
        save_picture(path, page.savefig)


def _mixed(sets: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Equally many rows of each set in a mixed order, and their colours."""
    number = min(POINTS, *map(len, sets.values())) if len(sets) > 1 else POINTS
    rows = np.concatenate([rows[:number] for rows in sets.values()])
    colors = np.repeat(list(sets), [len(rows[:number]) for rows in sets.values()])
    order = np.random.default_rng(0).permutation(len(rows))
    return rows[order], colors[order]


def _histogram(axis, values: np.ndarray, limits: tuple[float, float], color: str) -> None:
    """Of shares of the values, so that sets of different sizes compare."""
    shares = np.full(len(values), 1 / max(len(values), 1))
    style = {"histtype": "stepfilled", "alpha": 0.4} if color == DATA else {"histtype": "step"}
    axis.hist(values, np.linspace(*limits, BINS + 1), weights=shares, color=color, **style)


def _limits(sets: list[np.ndarray]) -> tuple[float, float]:
    """Where the middle 99 % of each of them lie, and some room beside."""
    if not sets:
        return 0.0, 1.0
    ends = np.array([np.percentile(values, [0.5, 99.5]) for values in sets])
    low, high = ends[:, 0].min(), ends[:, 1].max()
    room = 0.1 * (high - low) or 0.5 * max(1.0, abs(low))
    return low - room, high + room


def _label(name: str) -> str:
    return printable(name if len(name) <= 20 else f"{name[:19]}…")
