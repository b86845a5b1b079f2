"""MNIST, 28x28, 60,000 training images.

Command: python -m experiments.train mnist --data-dir DIR

MNIST is not in the paper; published for a Real NVP of this family: 1.06 bits/dim (Grathwohl et al., *FFJORD*, 2019,
table 2). The published MNIST figures of this line of work use a logit constant of 1e-6: with the 0.05 of natural images
the black background cannot be modelled cheaply. mnist_fast is the same data with a model for two cores.
"""

from experiments.config import Config
from experiments.data import ImageData
from nvpjax import RealNVP

CONFIG = Config(
    name="mnist",
    data=ImageData(
        dataset="mnist",
        image_shape=(28, 28, 1),
        classes=10,
    ),
    model=RealNVP(
        alpha=1e-6,
        scales=3,
        features=32,
        blocks=4,
    ),
    published=1.06,
    published_by="FFJORD, table 2",
)
