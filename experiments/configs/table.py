"""Your own table: the density of the columns of numbers of a .csv or .npy file.

Command: python -m experiments.train table --data FILE  [--context COLUMN ...] [--dequantize COLUMN ...]
"""

from experiments.config import Config, Training
from experiments.data import TableFile
from nvpjax import SplineCoupling

CONFIG = Config(
    name="table",
    data=TableFile(),
    model=SplineCoupling(
        layers=4,
        hidden=(64, 64),
    ),
    training=Training(
        batch_size=64,
        steps=2000,
        learning_rate=5e-4,
        final_learning_rate=5e-6,
        warmup_steps=50,
        gradient_clip=10.0,
        weight_decay=1e-4,
        average_decay=0.99,
        eval_every=100,
    ),
)
