"""Show test images, what comes back from their latents, and the difference.

Usage: python -m experiments.reconstruct RUN_DIR [--images 0 1 2 3 4 5 6 7] [--out FILE.png]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import tyro

from experiments import command_line
from experiments.config import with_data_dir
from experiments.data.images import pick_images
from experiments.pictures.grids import save_grid, to_pixels
from experiments.runs.trained import Coder, images_only, restore_run


@dataclass(frozen=True)
class Arguments:
    run_dir: tyro.conf.Positional[Path]
    """Directory that train wrote."""
    images: tuple[int, ...] = tuple(range(8))
    """Indices of test images."""
    checkpoint: Literal["best", "latest"] = "best"
    """Lowest score on validation images, or the last step."""
    data_dir: Path | None = None
    """Where prepared data sets lie; as in training by default."""
    data: Path | None = None
    """Where the run's own images lie, if they were moved."""
    out: Path | None = None
    """Picture to write; RUN_DIR/reconstruct.png by default."""


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m experiments.reconstruct", description=__doc__)
    )
    config, step, train_state = restore_run(options.run_dir, options.checkpoint)
    data = images_only(with_data_dir(config, options.data_dir, options.data), "reconstruct")
    picked = pick_images(data, "test", options.images)
    images = picked["image"]
    print(f"reconstructing {len(images)} images with the model of step {step} ...", flush=True)
    coder = Coder(config, train_state, picked.get("label"))
    z = coder.encode(images)
    restored = coder.decode(z)
    error = np.abs(restored - (images.astype(np.float32) + np.float32(0.5)) / np.float32(data.levels))
    worst = float(error.max())
    shown = np.round(error / max(worst, 1e-30) * (data.levels - 1)).astype(np.uint8)
    pixels, _ = to_pixels(restored, data.levels)
    out = options.out or options.run_dir / "reconstruct.png"
    save_grid(
        out,
        np.concatenate([images, pixels, shown]),
        data.levels,
        columns=len(images),
        title=f"{config.name}: images, decoded latents, and the error (white is {worst:.1e} of the pixel range)",
        row_titles=("image", "decoded", "error"),
    )
    wrong = int(np.sum(pixels != images))
    print(
        f"{config.name}: {len(images)} test images restored with a worst error of {worst:.1e} of the pixel range, "
        f"{wrong} of {images.size} pixels differ; written to {out}"
    )


if __name__ == "__main__":
    command_line.run(main)
