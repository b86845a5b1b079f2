"""LSUN bedroom, 64x64, the published model: 96,363,237 parameters.

Command: python -m experiments.train lsun_bedroom --data-dir DIR

Published: 2.72 bits/dim on test images, 2.70 on training images (Real NVP, table 1).
Images are resized so that the smaller side is 96. Training images are then cropped at random to 64x64 and mirrored at
random; for evaluation the middle is taken, so that the number does not depend on a draw. The test images are the set's
validation split, 300 images.
"""

from experiments.config import Config
from experiments.data import ImageData
from nvpjax import RealNVP

CONFIG = Config(
    name="lsun_bedroom",
    data=ImageData(
        dataset="lsun/bedroom",
        image_shape=(64, 64, 3),
        resize=96,
        test_split="validation",
        horizontal_flips=True,
    ),
    model=RealNVP(
        scales=5,
        features=32,
        blocks=2,
    ),
    published=2.72,
    published_by="Real NVP, table 1",
)
