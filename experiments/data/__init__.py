"""What is trained on: images of tensorflow-datasets, tables, files of one's own, densities of the plane."""

from experiments.data.data import Data
from experiments.data.image_files import ImageFiles
from experiments.data.images import ImageData, Images
from experiments.data.table_file import TableFile
from experiments.data.tables import Table, TableData

__all__ = ["Data", "ImageData", "ImageFiles", "Images", "Table", "TableData", "TableFile"]
