"""CIFAR-10 with a model that two CPU cores train in an hour.

Command: python -m experiments.train cifar10_fast --data-dir DIR

A Glow of 1.8 million parameters, learned noise included, chosen by an earlier search; by ``experiments.search`` as it
stands in docs/experiments.md, a learning rate of 1e-2 and uniform noise come out lower in 20 minutes. Its networks
compute in bfloat16, which is fast on CPUs that have products of it (AMX, AVX-512) with JAX 0.12, and slow on others:
--precision float32 there. Published for Glow itself, 44 million parameters, uniform noise: 3.35 bits/dim (table 2).
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
        noise=LearnedAffine(noise_depth=4, noise_features=64),
    ),
    model=Glow(
        levels=3,
        depth=8,
        features=128,
    ),
    training=Training(
        precision="bfloat16",
        batch_size=64,
        steps=10_000,
        learning_rate=3e-3,
        final_learning_rate=3e-5,
        warmup_steps=200,
        average_decay=0.999,
        measure_batches=5,
        eval_every=1000,
    ),
)
