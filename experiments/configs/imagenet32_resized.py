"""ImageNet 32x32 as it can be had today (anti-aliased), with the published model for the older set.

Command: python -m experiments.train imagenet32_resized --data-dir DIR

Published: nothing for a Real NVP on these images. They were shrunk with a box filter (Chrabaszcz et al., *A downsampled
variant of ImageNet*, 2017), are smoother than those of the paper and score lower; see imagenet32 for the paper's.
Reads ``imagenet_resized/32x32``. The test images are that set's validation split.
"""

from experiments.config import Config
from experiments.data import ImageData
from nvpjax import RealNVP

CONFIG = Config(
    name="imagenet32_resized",
    data=ImageData(
        dataset="imagenet_resized/32x32",
        image_shape=(32, 32, 3),
        test_split="validation",
    ),
    model=RealNVP(
        scales=4,
        features=32,
        blocks=4,
    ),
)
