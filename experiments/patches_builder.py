"""Patches of scikit-learn's two photographs as a tensorflow-datasets builder: natural images, nothing to download."""

from __future__ import annotations

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from sklearn.datasets import load_sample_images

SIDE, STRIDE = 32, 8
TEST_EVERY = 7
"""Every so many-th block of the grid of whole patches is a test image."""


class Patches(tfds.core.GeneratorBasedBuilder):
    """32x32 colour patches of a Chinese temple and of a flower (427x640 each).

    The photographs are divided into a grid of whole patches, every seventh of which is a test image. Training images
    are all patches on a grid of 8 pixels that share no pixel with a test image: 74 test images lie all over both
    photographs, so that both splits have the same content.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Every seventh block is a test image."}

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="32x32 patches of the sample photographs of scikit-learn.",
            features=tfds.features.FeaturesDict({"image": tfds.features.Image(shape=(SIDE, SIDE, 3))}),
        )

    def _split_generators(self, download_manager):
        train, test = [], []
        for photograph in load_sample_images().images:
            corners = [
                (top, left) for top in range(0, 427 - SIDE + 1, STRIDE) for left in range(0, 640 - SIDE + 1, STRIDE)
            ]
            blocks = [corner for corner in corners if corner[0] % SIDE == 0 and corner[1] % SIDE == 0]
            held_out = blocks[TEST_EVERY // 2 :: TEST_EVERY]
            taken = np.zeros(photograph.shape[:2], bool)
            for top, left in held_out:
                taken[top : top + SIDE, left : left + SIDE] = True
            free = [(top, left) for top, left in corners if not taken[top : top + SIDE, left : left + SIDE].any()]
            train += [photograph[top : top + SIDE, left : left + SIDE] for top, left in free]
            test += [photograph[top : top + SIDE, left : left + SIDE] for top, left in held_out]
        # Validation images are the last of the training images: in a fixed random order they are not one corner.
        order = np.random.default_rng(0).permutation(len(train))
        return {
            "train": self._generate_examples([train[index] for index in order]),
            "test": self._generate_examples(test),
        }

    def _generate_examples(self, patches):
        for index, patch in enumerate(patches):
            # A PIL image: from an array, tfds would encode with TensorFlow.
            yield index, {"image": Image.fromarray(patch)}
