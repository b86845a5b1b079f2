"""Show the manifold that four test images span: the picture of figure 6 of the paper.

Usage: python -m experiments.manifold RUN_DIR [--images 0 1 2 3] [--steps 10] [--out FILE.png]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import numpy as np
import tyro

from experiments import command_line
from experiments.config import with_data_dir
from experiments.data.images import pick_images
from experiments.errors import UserError
from experiments.pictures.grids import save_grid, to_pixels
from experiments.runs.trained import Coder, images_only, restore_run


@dataclass(frozen=True)
class Arguments:
    run_dir: tyro.conf.Positional[Path]
    """Directory that train wrote."""
    images: tuple[int, int, int, int] = (0, 1, 2, 3)
    """Indices of four test images."""
    steps: int = 10
    """Angles in each direction."""
    checkpoint: Literal["best", "latest"] = "best"
    """Lowest score on validation images, or the last step."""
    data_dir: Path | None = None
    """Where prepared data sets lie; as in training by default."""
    data: Path | None = None
    """Where the run's own images lie, if they were moved."""
    out: Path | None = None
    """Picture to write; RUN_DIR/manifold.png by default."""


def manifold(z: Sequence[np.ndarray], steps: int) -> np.ndarray:
    """Give ``steps``² combinations of four latents, φ from row to row and φ′ from column to column, over [0, 2π).

        z = cos φ (cos φ′ z₁ + sin φ′ z₂) + sin φ (cos φ′ z₃ + sin φ′ z₄)

    The squares of the four weights sum to 1: if the four are draws of N(0, I), so is every point of the manifold.

    Shapes: z four arrays ``event``; result ``(steps², *event)``.

    Reference: Real NVP, sec. 4.2 and fig. 6.
    """
    angles = 2 * np.pi * np.arange(steps) / steps
    phi, phi_prime = (angle.ravel() for angle in np.meshgrid(angles, angles, indexing="ij"))
    outer, inner = ((np.cos(angle), np.sin(angle)) for angle in (phi, phi_prime))
    weights = np.stack([o * i for o in outer for i in inner], axis=1)
    return np.tensordot(weights.astype(np.float32), np.stack(z), axes=1)


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m experiments.manifold", description=__doc__)
    )
    if options.steps < 1:
        raise UserError(f"expected --steps of at least 1, got {options.steps}")
    config, step, train_state = restore_run(options.run_dir, options.checkpoint)
    data = images_only(with_data_dir(config, options.data_dir, options.data), "manifold")
    if config.classes:
        raise UserError(
            f"manifold mixes images, and the model of {config.name} wants one label for each: use one without"
        )
    images = pick_images(data, "test", options.images)["image"]
    print(f"decoding {options.steps**2} points from step {step} ...", flush=True)
    coder = Coder(config, train_state)
    z = coder.encode(images)
    points = jax.tree.map(lambda latent: manifold(list(np.asarray(latent)), options.steps), z)
    x = coder.decode(points)
    pixels, outside = to_pixels(x, data.levels)
    out = options.out or options.run_dir / "manifold.png"
    title = f"{config.name}: the manifold of test images {', '.join(map(str, options.images))}"
    save_grid(out, pixels, data.levels, columns=options.steps, gap=0, title=title)
    print(
        f"{config.name}: {len(x)} points of the manifold of test images {options.images} written to {out} "
        f"({outside:.2%} of the pixel values lay outside the range and were set to its ends)"
    )


if __name__ == "__main__":
    command_line.run(main)
