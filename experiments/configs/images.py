"""Your own images: a folder of .png and .jpg files, or a .npy or .npz file of an array.

Command: python -m experiments.train images --images PLACE  [--size 32] [--channels 1|3]
"""

from experiments.config import Config, Training
from experiments.data import ImageFiles
from nvpjax import Glow

CONFIG = Config(
    name="images",
    data=ImageFiles(),
    model=Glow(
        levels=3,
        depth=4,
        features=64,
    ),
    training=Training(
        batch_size=32,
        steps=3000,
        learning_rate=3e-3,
        final_learning_rate=3e-5,
        warmup_steps=100,
        average_decay=0.999,
        measure_batches=5,
        eval_every=300,
    ),
)
