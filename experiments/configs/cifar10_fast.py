"""CIFAR-10 with a model for two CPU cores and a night.

Command: python -m experiments.train cifar10_fast --data-dir DIR

A Glow of 5.4 million parameters, learned noise included. Its networks compute in bfloat16, which is fast on CPUs that
have products of it (AMX) with JAX 0.12, and slow on others: --precision float32 there. Published for Glow itself, 44
million parameters, uniform noise: 3.35 bits/dim (Glow, table 2).
"""

from experiments.config import Config, Training
from experiments.data import ImageData
from experiments.data.noise import LearnedAffine
from nvpjax import Glow

CONFIG = Config(
    name="cifar10_fast",
    data=ImageData(
        dataset="cifar10",
        image_shape=(32, 32, 3),
        classes=10,
        horizontal_flips=True,
        noise=LearnedAffine(noise_depth=4, noise_features=128),
    ),
    model=Glow(
        levels=3,
        depth=10,
        features=256,
    ),
    training=Training(
        precision="bfloat16",
        batch_size=64,
        steps=60_000,
        learning_rate=3e-3,
        final_learning_rate=3e-5,
        warmup_steps=500,
        average_decay=0.999,
        measure_batches=5,
        eval_every=1000,
    ),
)
