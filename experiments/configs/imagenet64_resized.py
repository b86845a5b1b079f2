"""ImageNet 64x64 as it can be had today (anti-aliased), with the published model for the older set.

Command: python -m experiments.train imagenet64_resized --data-dir DIR

Published: nothing for a Real NVP on these images. They were shrunk with a box filter (Chrabaszcz et al., *A downsampled
variant of ImageNet*, 2017), are smoother than those of the paper and score lower; see imagenet64 for the paper's.
Reads ``imagenet_resized/64x64``. The test images are that set's validation split.
"""

from experiments.config import Config
from experiments.data import ImageData
from nvpjax import RealNVP

CONFIG = Config(
    name="imagenet64_resized",
    data=ImageData(
        dataset="imagenet_resized/64x64",
        image_shape=(64, 64, 3),
        test_split="validation",
    ),
    model=RealNVP(
        scales=5,
        features=32,
        blocks=2,
    ),
)
