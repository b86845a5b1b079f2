"""CIFAR-10, 32x32x3, the published model: 19,609,545 parameters.

Command: python -m experiments.train cifar10 --data-dir DIR

Published: 3.49 bits/dim on test images (Dinh et al., *Density estimation using Real NVP*, 2017, table 1).
"""

from experiments.config import Config

CONFIG = Config(
    name="cifar10",
    dataset="cifar10",
    image_shape=(32, 32, 3),
    horizontal_flips=True,
    scales=2,
    features=64,
    blocks=8,
)
