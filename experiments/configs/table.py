"""Your own table: the density of the columns of numbers of a .csv or .npy file.

Command: python -m experiments.train table --data FILE  [--context COLUMN ...] [--dequantize COLUMN ...]

The model did best of eight in a short comparison on two tables of scikit-learn's.
"""

from experiments.config import Config, Training
from experiments.data import TableFile
from nvpjax import MAF

CONFIG = Config(
    name="table",
    data=TableFile(),
    model=MAF(
        layers=3,
        hidden=(64, 64),
        transform="spline",
    ),
    training=Training(
        batch_size=64,
        steps=2000,
        learning_rate=1e-3,
        final_learning_rate=1e-5,
        warmup_steps=50,
        gradient_clip=10.0,
        weight_decay=1e-2,
        average_decay=0.99,
        eval_every=100,
    ),
)
