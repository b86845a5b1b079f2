"""MNIST with a model that two CPU cores train in two hours.

Command: python -m experiments.train mnist_fast --data-dir DIR

Published for a Real NVP of this family, trained on GPUs for days: 1.06 bits/dim (FFJORD, table 2).
"""

from experiments.config import Config, Training
from experiments.data import ImageData
from nvpjax import RealNVP

CONFIG = Config(
    name="mnist_fast",
    data=ImageData(
        dataset="mnist",
        image_shape=(28, 28, 1),
        classes=10,
        validation_percent=2,
    ),
    model=RealNVP(
        scales=2,
        features=16,
        blocks=1,
        alpha=1e-4,
        learned_prior=True,
    ),
    training=Training(
        batch_size=32,
        steps=26_000,
        learning_rate=2e-3,
        final_learning_rate=1e-5,
        warmup_steps=200,
        eval_every=1000,
    ),
    published=1.06,
    published_by="FFJORD, table 2",
)
