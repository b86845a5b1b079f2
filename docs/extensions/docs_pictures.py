"""What the pages' pictures have in common. Cells that draw are hidden where drawing is not what they teach."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np

plt.rcParams.update(
    {
        "figure.dpi": 110,
        "figure.constrained_layout.use": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "font.size": 9,
        "legend.frameon": False,
    }
)


def panels(columns: int, rows: int = 1, *, width: float = 3.0, height: float = 2.8, **options):
    """A page of axes, ``columns`` beside each other."""
    return plt.subplots(rows, columns, figsize=(width * columns, height * rows), **options)


def scatter(axes, x, title: str = "", *, color: str = "C0", size: float = 3, **options) -> None:
    """Points of the plane."""
    x = np.asarray(x)
    axes.scatter(x[:, 0], x[:, 1], s=size, alpha=0.5, linewidths=0, color=color, **options)
    axes.set_title(title)


def corner(tables: dict[str, np.ndarray], names: list[str], *, size: float = 1.6, limits=None):
    """Every pair of columns of some tables, and each column's histogram, a colour a table."""
    number = len(names)
    page, grid = plt.subplots(number, number, figsize=(size * number, size * number))
    for color, (label, table) in enumerate(tables.items()):
        table = np.asarray(table)
        for row in range(number):
            for column in range(number):
                axes = grid[row, column]
                if column > row:
                    axes.axis("off")
                elif column == row:
                    axes.hist(table[:, row], bins=40, density=True, histtype="step", color=f"C{color}", label=label)
                    axes.set_yticks([])
                else:
                    points = (table[:, column], table[:, row])
                    axes.scatter(*points, s=1.5, alpha=0.4, linewidths=0, color=f"C{color}")
    for index, name in enumerate(names):
        grid[-1, index].set_xlabel(name)
        if index:
            grid[index, 0].set_ylabel(name)
        if limits is not None:
            for axes in grid[index:, index]:
                axes.set_xlim(*limits[index])
            for axes in grid[index, :index]:
                axes.set_ylim(*limits[index])
    page.legend(*grid[0, 0].get_legend_handles_labels(), loc="upper right")
    return page
