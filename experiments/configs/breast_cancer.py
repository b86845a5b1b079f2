"""The breast cancer table that ships inside scikit-learn: 569 rows of 30 columns, a minute on a laptop.

Command: python -m experiments.train breast_cancer  (another model: --model maf, iaf, spline_coupling or nice)
"""

from experiments.config import Config, Training
from experiments.data import TableData
from nvpjax import RealNVPVectors

CONFIG = Config(
    name="breast_cancer",
    data=TableData(dataset="breast_cancer", columns=30),
    model=RealNVPVectors(),
    training=Training(
        batch_size=64,
        steps=400,
        learning_rate=1e-3,
        final_learning_rate=1e-5,
        warmup_steps=50,
        weight_decay=1e-4,
        eval_every=50,
    ),
)
