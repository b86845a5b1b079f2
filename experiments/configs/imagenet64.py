"""ImageNet 64x64 as the paper had it, the published model: 96,363,237 parameters.

Command: python -m experiments.train imagenet64 --data-dir DIR

Published: 3.98 bits/dim on test images, 3.75 on training images (Real NVP, table 1).
Reads ``downsampled_imagenet/64x64``, the set of van den Oord et al., 2016, which has gone from its address: this
config is for who still has it. Numbers on the set that can be had today, imagenet64_resized, are lower and no
comparison: its images are anti-aliased. The test images are that set's validation split.
"""

from experiments.config import Config
from experiments.data import ImageData
from nvpjax import RealNVP

CONFIG = Config(
    name="imagenet64",
    data=ImageData(
        dataset="downsampled_imagenet/64x64",
        image_shape=(64, 64, 3),
        test_split="validation",
    ),
    model=RealNVP(
        scales=5,
        features=32,
        blocks=2,
    ),
    published=3.98,
    published_by="Real NVP, table 1",
)
