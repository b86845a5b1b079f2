"""The 8x8 digits that ship inside scikit-learn: trains in minutes on a laptop, with nothing to download.

Command: python -m experiments.train digits  (or: make train)
"""

from experiments.config import Config, Training
from experiments.data import ImageData
from experiments.data.noise import LearnedAffine
from nvpjax import RealNVP

CONFIG = Config(
    name="digits",
    data=ImageData(
        dataset="digits",
        image_shape=(8, 8, 1),
        levels=17,
        classes=10,
        validation_percent=10,
        shifts=1,
        noise=LearnedAffine(noise_depth=4, noise_features=16),
    ),
    model=RealNVP(
        alpha=0.01,
        scales=2,
        features=16,
        blocks=2,
    ),
    training=Training(
        batch_size=64,
        steps=1200,
        learning_rate=2e-3,
        final_learning_rate=1e-5,
        warmup_steps=50,
        eval_every=150,
    ),
)
