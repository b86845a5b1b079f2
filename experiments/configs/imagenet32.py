"""ImageNet 32x32 as the paper had it, the published model: 46,220,359 parameters.

Command: python -m experiments.train imagenet32 --data-dir DIR

Published: 4.28 bits/dim on test images, 4.26 on training images (Real NVP, table 1).
Reads ``downsampled_imagenet/32x32``, the set of van den Oord et al., 2016, which has gone from its address: this
config is for who still has it. Numbers on the set that can be had today, imagenet32_resized, are lower and no
comparison: its images are anti-aliased. The test images are that set's validation split.
"""

from experiments.config import Config
from experiments.data import ImageData
from nvpjax import RealNVP

CONFIG = Config(
    name="imagenet32",
    data=ImageData(
        dataset="downsampled_imagenet/32x32",
        image_shape=(32, 32, 3),
        test_split="validation",
    ),
    model=RealNVP(
        scales=4,
        features=32,
        blocks=4,
    ),
    published=4.28,
    published_by="Real NVP, table 1",
)
