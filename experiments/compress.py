"""Show conceptual compression: the coarsest latents are kept, the others drawn anew (the paper's appendix D).

Usage: python -m experiments.compress RUN_DIR [--images 0 1 2 3 4 5 6 7] [--out FILE.png]
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
from nvpjax import OrderedSqueeze

SHARES = (1.0, 0.5, 0.25, 0.125, 0.0625)


@dataclass(frozen=True)
class Arguments:
    run_dir: tyro.conf.Positional[Path]
    """Directory that train wrote."""
    images: tuple[int, ...] = tuple(range(8))
    """Indices of test images."""
    seed: int = 0
    """Seed of the latents that are drawn anew."""
    checkpoint: Literal["best", "latest"] = "best"
    """Lowest score on validation images, or the last step."""
    data_dir: Path | None = None
    """Where prepared data sets lie; as in training by default."""
    data: Path | None = None
    """Where the run's own images lie, if they were moved."""
    out: Path | None = None
    """Picture to write; RUN_DIR/compress.png by default."""


def coarsest(shapes: Sequence[tuple[int, int, int]], share: float) -> list[np.ndarray]:
    """Tell which latent variables are among the coarsest ``share`` of all: a boolean array for each shape.

    Latents are finest first, as a multi-scale flow gives them. Where a part of one latent is kept, it is what further
    ordered squeezes would have sent on: one diagonal of each 2x2 block, then half of that, and so on.

    Reference: Real NVP, app. D; of models with fewer scales than the paper's, the last latent is divided further here.
    """
    sizes = [int(np.prod(shape)) for shape in shapes]
    remaining = round(share * sum(sizes))
    kept = []
    for shape, size in zip(reversed(shapes), reversed(sizes)):
        mask = np.zeros(size, bool)
        mask[_coarse_to_fine(np.arange(size).reshape(shape))[:remaining]] = True
        remaining -= min(remaining, size)
        kept.append(mask.reshape(shape))
    return kept[::-1]


def _coarse_to_fine(index: np.ndarray) -> np.ndarray:
    """The entries of ``(height, width, channels)`` in the order in which ordered squeezes would keep them."""
    height, width, channels = index.shape
    if height % 2 or width % 2:
        return np.moveaxis(index, -1, 0).reshape(-1)  # no squeeze divides it: channel by channel
    squeezed = np.asarray(OrderedSqueeze().forward((), (), index[None].astype(np.float32))[0])[0].astype(int)
    half = 2 * channels
    return np.concatenate([_coarse_to_fine(squeezed[..., :half]), squeezed[..., half:].reshape(-1)])


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m experiments.compress", description=__doc__)
    )
    config, step, train_state = restore_run(options.run_dir, options.checkpoint)
    data = images_only(with_data_dir(config, options.data_dir, options.data), "compress")
    picked = pick_images(data, "test", options.images)
    images = picked["image"]
    print(f"compressing {len(images)} images with the model of step {step} ...", flush=True)
    coder = Coder(config, train_state, picked.get("label"))
    z = jax.tree.map(np.asarray, coder.encode(images))
    if not isinstance(z, tuple):
        raise UserError(f"compress keeps the coarsest latents, and the model of {config.name} has one scale")
    noise = jax.tree.map(np.asarray, coder.draw_latents(jax.random.key(options.seed), len(images)))
    columns = [images]
    for share in SHARES:
        kept = coarsest([latent.shape[1:] for latent in z], share)
        mixed = tuple(np.where(mask, latent, drawn) for mask, latent, drawn in zip(kept, z, noise))
        columns.append(to_pixels(coder.decode(mixed), data.levels)[0])
    out = options.out or options.run_dir / "compress.png"
    save_grid(
        out,
        np.stack(columns, axis=1).reshape(-1, *images.shape[1:]),
        data.levels,
        columns=len(columns),
        title=f"{config.name}: share of the latent variables kept",
        column_titles=("image", *(f"{100 * share:g} %" for share in SHARES)),
    )
    shares = ", ".join(f"{100 * share:g}" for share in SHARES)
    print(f"{config.name}: {len(images)} test images with {shares} % of the latent variables kept written to {out}")


if __name__ == "__main__":
    command_line.run(main)
