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
from experiments.data.images import pick_images, with_data_dir
from experiments.errors import UserError
from experiments.pictures.grids import save_grid, to_pixels
from experiments.runs.trained import make_coder, restore_run


@dataclass(frozen=True)
class Arguments:
    run_dir: tyro.conf.Positional[Path]
    """Directory that train wrote."""
    images: tuple[int, int, int, int] = (0, 1, 2, 3)
    """Indices of four test images."""
    steps: int = 10
    """Angles in each direction."""
    checkpoint: Literal["best", "latest"] = "best"
    """Lowest validation bits/dim, or the last step."""
    data_dir: Path | None = None
    """Where prepared data sets lie; as in training by default."""
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
    images = pick_images(with_data_dir(config, options.data_dir), "test", options.images)
    print(f"decoding {options.steps**2} points from step {step} ...", flush=True)
    encode, decode = make_coder(config)
    z = encode(train_state.params, train_state.state, images)
    points = jax.tree.map(lambda latent: manifold(list(np.asarray(latent)), options.steps), z)
    x = np.asarray(decode(train_state.params, train_state.state, points))
    pixels, outside = to_pixels(x, config.levels)
    out = options.out or options.run_dir / "manifold.png"
    title = f"{config.name}: the manifold of test images {', '.join(map(str, options.images))}"
    save_grid(out, pixels, config.levels, columns=options.steps, gap=0, title=title)
    print(
        f"{config.name}: {len(x)} points of the manifold of test images {options.images} written to {out} "
        f"({outside:.2%} of the pixel values lay outside the range and were set to its ends)"
    )


if __name__ == "__main__":
    command_line.run(main)
