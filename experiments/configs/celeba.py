"""CelebA, aligned faces at 64x64, the published model: 96,363,237 parameters.

Command: python -m experiments.train celeba --data-dir DIR

Published: 3.02 bits/dim on test images, 2.97 on training images (Real NVP, table 1).
Rows 40:188 and columns 15:163 are cut out (148x148) and resized to 64x64 with an anti-aliasing filter. Training images
are mirrored at random.
"""

from experiments.config import Config
from experiments.data import ImageData
from nvpjax import RealNVP

CONFIG = Config(
    name="celeba",
    data=ImageData(
        dataset="celeb_a",
        image_shape=(64, 64, 3),
        crop=(40, 188, 15, 163),
        resize=64,
        horizontal_flips=True,
    ),
    model=RealNVP(
        scales=5,
        features=32,
        blocks=2,
    ),
    published=3.02,
    published_by="Real NVP, table 1",
)
