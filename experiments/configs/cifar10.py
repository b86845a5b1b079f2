"""CIFAR-10, 32x32x3, the published model: 19,609,545 parameters.

Command: python -m experiments.train cifar10 --data-dir DIR

Published: 3.49 bits/dim on test images (Real NVP, table 1).
Training images are mirrored at random. The paper's running averages in training (its eq. 20 and 21) are --lag 0.9; the
authors' program leaves them off.
"""

from experiments.config import Config
from experiments.data import ImageData
from nvpjax import RealNVP

CONFIG = Config(
    name="cifar10",
    data=ImageData(
        dataset="cifar10",
        image_shape=(32, 32, 3),
        classes=10,
        horizontal_flips=True,
    ),
    model=RealNVP(
        scales=2,
        features=64,
        blocks=8,
    ),
    published=3.49,
    published_by="Real NVP, table 1",
)
