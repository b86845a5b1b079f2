"""scikit-learn's handwritten digits as a tensorflow-datasets builder: prepared once, read like any other set."""

from __future__ import annotations

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from sklearn.datasets import load_digits


class Digits(tfds.core.GeneratorBasedBuilder):
    """1,797 grey images of 8x8 pixels with 17 levels (0 … 16), after Alpaydin and Kaynak, 1998 (UCI).

    Every sixth image is a test image: the set is ordered by writers, so this gives both splits the same writers, as
    the customary random split does, and needs no seed.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Every sixth image is a test image."}

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Handwritten digits of 43 writers, 8x8 pixels, 17 grey levels.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1)),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
        )

    def _split_generators(self, download_manager):
        digits = load_digits()
        images, labels = digits.images.astype(np.uint8), digits.target
        is_test = np.arange(len(images)) % 6 == 5
        return {
            "train": self._generate_examples(images[~is_test], labels[~is_test]),
            "test": self._generate_examples(images[is_test], labels[is_test]),
        }

    def _generate_examples(self, images, labels):
        for index, (image, label) in enumerate(zip(images, labels)):
            # A PIL image: from an array, tfds would encode with TensorFlow.
            yield index, {"image": Image.fromarray(image), "label": int(label)}
