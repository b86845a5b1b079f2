"""MNIST with classes and an autoregressive transformer that two CPU cores train in two hours.

Command: python -m experiments.train mnist_tarflow --data-dir DIR

A TarFlow of 1.8 million parameters whose entries are told one by one what comes before them, in their own patch too,
and whose layers are mixtures of eight logistics, behind a Real NVP's logit: see mnist_fast for why black pixels want
both. Uniform noise, and float32: with products of bfloat16 a step takes as long here.

Published, uniform noise and days on GPUs: 0.97 bits/dim for a residual flow, the best that is known of a flow, without
classes. Those are worth log₂(10)/784 = 0.004 bits/dim at most.
"""

from experiments.config import Config, Training
from experiments.data import ImageData
from nvpjax.models import TarFlow

CONFIG = Config(
    name="mnist_tarflow",
    data=ImageData(dataset="mnist", image_shape=(28, 28, 1), classes=10, validation_percent=2),
    model=TarFlow(
        patch=4,
        width=128,
        layers=2,
        depth=3,
        classes=10,
        components=8,
        alpha=1e-4,
        inside=(256, 256),
    ),
    training=Training(
        batch_size=32,
        steps=40_000,
        learning_rate=1e-3,
        final_learning_rate=1e-5,
        warmup_steps=500,
        average_decay=0.999,
        measure_batches=0,
        eval_every=4000,
    ),
    published=0.97,
    published_by="Residual flows, table 1",
)
