"""CIFAR-10 with a TarFlow of 25.9 million parameters: for an accelerator; not trained here yet.

Commands: python -m experiments.train cifar10_tarflow --data-dir DIR
          python -m experiments.within OUT --configs cifar10_tarflow --minutes 25 --data-dir DIR

The second fits the steps into the minutes that one has and packs what is worth bringing home. No size for CIFAR-10 is
published: patches of 2, and fewer channels and blocks than for ImageNet's 64x64 (2.99 bits/dim). Settings of the
optimizer as there, with a rate for a smaller network. Networks in bfloat16; what they tell is applied in float32.
"""

from experiments.config import Config, Training
from experiments.data import ImageData
from nvpjax.models import TarFlow

CONFIG = Config(
    name="cifar10_tarflow",
    data=ImageData(dataset="cifar10", image_shape=(32, 32, 3), classes=10, horizontal_flips=True),
    model=TarFlow(patch=2, width=256, layers=8, depth=4),
    training=Training(
        precision="bfloat16",
        batch_size=256,
        steps=19_500,
        learning_rate=5e-4,
        final_learning_rate=1e-6,
        warmup_steps=200,
        weight_decay=1e-4,
        second_moment_decay=0.95,
        average_decay=0.999,
        measure_batches=0,
        eval_every=3900,
    ),
)
