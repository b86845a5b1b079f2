"""What is trained on: images of tensorflow-datasets, embedded sets, tables, densities of the plane."""

from experiments.data.data import Data
from experiments.data.images import ImageData
from experiments.data.tables import TableData

__all__ = ["Data", "ImageData", "TableData"]
