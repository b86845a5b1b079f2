"""Patches of scikit-learn's two photographs as a tensorflow-datasets builder: natural images, nothing to download."""

from __future__ import annotations

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from sklearn.datasets import load_sample_images

SIDE, STRIDE = 32, 8
EVERY = 7
"""Of the grid of whole patches, one in so many is a test image, and one a validation image."""


class Patches(tfds.core.GeneratorBasedBuilder):
    """32x32 colour patches of a Chinese temple and of a flower (427x640 each).

    The photographs are divided into a grid of whole patches; of every seven, one is a test image and one a validation
    image. Training images are all patches on a grid of 8 pixels that share no pixel with those. All three lie all
    over both photographs and have the same content. Validation images are the last of the train split, 3 percent.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Of every seven blocks one is a test image, one a validation image."}

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="32x32 patches of the sample photographs of scikit-learn.",
            features=tfds.features.FeaturesDict({"image": tfds.features.Image(shape=(SIDE, SIDE, 3))}),
        )

    def _split_generators(self, download_manager):
        train, validation, test = [], [], []
        for photograph in load_sample_images().images:
            height, width, _ = photograph.shape
            tops, lefts = (range(0, side - SIDE + 1, STRIDE) for side in (height, width))
            corners = [(top, left) for top in tops for left in lefts]
            blocks = [corner for corner in corners if corner[0] % SIDE == 0 and corner[1] % SIDE == 0]
            taken = np.zeros((height, width), bool)
            for split, first in ((validation, 0), (test, EVERY // 2)):
                for top, left in blocks[first::EVERY]:
                    taken[top : top + SIDE, left : left + SIDE] = True
                    split.append(photograph[top : top + SIDE, left : left + SIDE])
            for top, left in corners:
                if not taken[top : top + SIDE, left : left + SIDE].any():
                    train.append(photograph[top : top + SIDE, left : left + SIDE])
        return {"train": self._generate_examples(train + validation), "test": self._generate_examples(test)}

    def _generate_examples(self, patches):
        for index, patch in enumerate(patches):
            # A PIL image: from an array, tfds would encode with TensorFlow.
            yield index, {"image": Image.fromarray(patch)}
