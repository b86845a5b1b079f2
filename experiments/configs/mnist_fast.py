"""MNIST with a model that two CPU cores train in less than an hour.

Command: python -m experiments.train mnist_fast --data-dir DIR

A Glow of 0.8 million parameters, learned noise included, whose couplings are mixtures of four logistics, behind a Real
NVP's logit: black pixels, most of an image of MNIST, are a narrow box otherwise, which affine maps cannot fill. Its
networks compute in bfloat16, as those of cifar10_fast.

Published, uniform noise and days on GPUs: 1.06 bits/dim for a Real NVP, 1.05 for a Glow (FFJORD, table 2).
"""

from experiments.config import Config, Training
from experiments.data import ImageData
from experiments.data.noise import LearnedAffine
from nvpjax import Glow

CONFIG = Config(
    name="mnist_fast",
    data=ImageData(
        dataset="mnist",
        image_shape=(28, 28, 1),
        classes=10,
        validation_percent=2,
        noise=LearnedAffine(noise_depth=4, noise_features=64),
    ),
    model=Glow(
        levels=2,
        depth=8,
        features=96,
        alpha=1e-4,
        components=4,
    ),
    training=Training(
        precision="bfloat16",
        batch_size=64,
        steps=12_000,
        learning_rate=3e-3,
        final_learning_rate=3e-5,
        warmup_steps=200,
        average_decay=0.999,
        measure_batches=5,
        eval_every=3000,
    ),
    published=1.06,
    published_by="FFJORD, table 2",
)
