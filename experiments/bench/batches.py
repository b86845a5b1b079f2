"""Random batches in the shape of a config's data: what a step costs does not depend on what is in them."""

from __future__ import annotations

import numpy as np

from experiments.config import Config


def random_batch(config: Config, batch_size: int | None = None) -> dict[str, np.ndarray]:
    rng, data = np.random.default_rng(0), config.data
    blank = data.blank_batch(config.training.batch_size if batch_size is None else batch_size)
    drawn = {
        "image": lambda shape: rng.integers(0, getattr(data, "levels", 2), shape),
        "label": lambda shape: rng.integers(0, max(1, data.classes), shape),
        "x": rng.standard_normal,
    }
    return {name: drawn[name](array.shape).astype(array.dtype) for name, array in blank.items()}
