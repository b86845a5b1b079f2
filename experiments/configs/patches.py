"""32x32 colour patches of scikit-learn's two photographs: a small set of natural images, with nothing to download.

Command: python -m experiments.train patches

Not a benchmark: 2,300 overlapping patches of two photographs. It is here to see that training on natural images is
stable, on two cores. Validation and test images share no pixel with training images.
"""

from experiments.config import Config, Training
from experiments.data import ImageData
from nvpjax import RealNVP

CONFIG = Config(
    name="patches",
    data=ImageData(
        dataset="patches",
        image_shape=(32, 32, 3),
        validation_percent=3,
        horizontal_flips=True,
    ),
    model=RealNVP(
        scales=3,
        features=12,
        blocks=1,
    ),
    training=Training(
        batch_size=32,
        steps=3000,
        final_learning_rate=1e-5,
        warmup_steps=100,
        eval_every=200,
    ),
)
