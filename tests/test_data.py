"""Every config reads its data set: made-up sets of the same features, through the code that real ones take."""

import dataclasses

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from experiments.configs import all_configs
from experiments.data.images import load_images, pick_images, training_batches
from experiments.data.preprocessing import cut_and_resize
from experiments.errors import UserError

image_of = tfds.features.Image
SETS = {
    # name: (version, features, shape of what is made up, name of the split for tests)
    "mnist": ("3.0.1", {"image": image_of(shape=(28, 28, 1))}, (28, 28), "test"),
    "cifar10": ("3.0.2", {"id": tfds.features.Text(), "image": image_of(shape=(32, 32, 3))}, (32, 32, 3), "test"),
    "downsampled_imagenet/32x32": ("2.0.0", {"image": image_of()}, (32, 32, 3), "validation"),
    "downsampled_imagenet/64x64": ("2.0.0", {"image": image_of()}, (64, 64, 3), "validation"),
    "imagenet_resized/32x32": ("0.1.0", {"image": image_of(shape=(32, 32, 3))}, (32, 32, 3), "validation"),
    "imagenet_resized/64x64": ("0.1.0", {"image": image_of(shape=(64, 64, 3))}, (64, 64, 3), "validation"),
    "celeb_a": ("2.1.0", {"image": image_of(shape=(218, 178, 3), encoding_format="jpeg")}, (218, 178, 3), "test"),
    "lsun/bedroom": ("3.1.0", {"image": image_of(encoding_format="jpeg")}, (256, 341, 3), "validation"),
    "lsun/tower": ("3.1.0", {"image": image_of(encoding_format="jpeg")}, (384, 256, 3), "validation"),
    "lsun/church_outdoor": ("3.1.0", {"image": image_of(encoding_format="jpeg")}, (256, 256, 3), "validation"),
}
TRAINING = 24


def prepare(data_dir, dataset):
    """Write a data set of random images where ``dataset`` would lie."""
    version, features, shape, test_split = SETS[dataset]
    name, _, part = dataset.partition("/")

    class MadeUp(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version(version)
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=part, version=version)] if part else []

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, download_manager):
            return {"train": self._generate_examples(TRAINING), test_split: self._generate_examples(5)}

        def _generate_examples(self, number):
            rng = np.random.default_rng(number)
            for index in range(number):
                picture = Image.fromarray(rng.integers(0, 256, shape, np.uint8))
                yield index, {"image": picture, **({"id": str(index)} if "id" in features else {})}

    MadeUp.name = name
    MadeUp(data_dir=data_dir, file_format="array_record", **({"config": part} if part else {})).download_and_prepare()


@pytest.mark.parametrize("name", sorted(set(all_configs()) - {"digits", "patches"}))
def test_every_config_reads_its_data_set(name, tmp_path):
    config = dataclasses.replace(all_configs()[name][1], data_dir=tmp_path, batch_size=8, validation_percent=25)
    prepare(tmp_path, config.dataset)
    images = {split: load_images(config, split) for split in ("train", "validation", "test")}
    assert [len(found) for found in images.values()] == [18, 6, 5]
    for found in images.values():
        assert found[0].shape == config.image_shape and found[0].dtype == np.uint8
    batches = training_batches(load_images(config, "train", for_training=True), config)
    batch = next(batches)
    assert batch.shape == (8, *config.image_shape) and batch.dtype == np.uint8 and batch.std() > 0
    assert pick_images(config, "test", (4, 0)).shape == (2, *config.image_shape)
    with pytest.raises(UserError, match="no test image 5"):
        pick_images(config, "test", (5,))


def test_a_set_of_another_shape_is_refused(tmp_path):
    prepare(tmp_path, "lsun/tower")
    config = dataclasses.replace(all_configs()["cifar10"][1], data_dir=tmp_path, dataset="lsun/tower")
    with pytest.raises(UserError, match=r"expected 8-bit images of 32x32x3 .* got 384x256x3"):
        load_images(config, "train")
    with pytest.raises(UserError, match="cannot be read"):
        load_images(config, "test")


def test_celeba_is_cut_and_resized_as_published():
    image = np.zeros((218, 178, 3), np.uint8)
    image[40:188, 15:163] = 200  # what is cut out, and nothing else, is light
    image[114, 89] = 0
    resized = cut_and_resize(image, all_configs()["celeba"][1])
    assert resized.shape == (64, 64, 3) and resized[0, 0, 0] == resized[-1, -1, 0] == 200
    # A dark pixel in 148x148 darkens its neighbourhood by its share of the area: nothing is skipped over.
    np.testing.assert_allclose((200 - resized[..., 0].astype(float)).sum() * (148 / 64) ** 2, 200, rtol=0.1)


def test_crops_of_lsun_are_random_in_training_and_the_middle_in_evaluation(tmp_path):
    prepare(tmp_path, "lsun/bedroom")
    config = dataclasses.replace(
        all_configs()["lsun_bedroom"][1],
        data_dir=tmp_path,
        batch_size=18,
        validation_percent=25,
        horizontal_flips=False,
    )
    resized = load_images(config, "train", for_training=True)
    assert resized[0].shape == (96, 128, 3)
    middle = load_images(config, "train")[0]
    np.testing.assert_array_equal(middle, resized[0][16:80, 32:96])
    first, second = next(training_batches(resized, config)), next(training_batches(resized, config, first_step=1))
    rows = np.lib.stride_tricks.sliding_window_view(resized[0][:33], (64, 3), axis=(1, 2))[:, :, 0]  # tops of all crops

    def places(batch):
        return [tuple(place) for image in batch for place in np.argwhere((rows == image[0]).all(axis=(-2, -1)))]

    assert len(places(first)) == len(places(second)) == 1 and places(first) != places(
        second
    )  # once an epoch, elsewhere


def test_patches_for_testing_share_no_pixels_with_those_for_training(tmp_path):
    config = dataclasses.replace(all_configs()["patches"][1], data_dir=tmp_path)
    train, test = load_images(config, "train"), load_images(config, "test")
    rows = {row.tobytes() for image in train for row in image.reshape(-1, 8 * 3)}  # of 8 neighbouring pixels
    shared = [sum(row.tobytes() in rows for row in image.reshape(-1, 8 * 3)) for image in test]
    assert len(test) == 74 and np.mean(shared) < 0.05 * 128  # but for plain sky, no row is seen in both


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_read_disjoint_rows_that_are_together_each_image_once_an_epoch(processes, monkeypatch):
    images = np.arange(48, dtype=np.uint8).reshape(48, 1, 1, 1)  # each image is its own number
    config = dataclasses.replace(all_configs()["digits"][1], batch_size=8, shifts=0)
    whole = [next(batches) for batches in [training_batches(images, config)] for _ in range(12)]

    parts = []
    for process in range(processes):
        with monkeypatch.context() as context:
            context.setattr(jax, "process_count", lambda: processes)
            context.setattr(jax, "process_index", lambda process=process: process)
            first, later = training_batches(images, config), training_batches(images, config, first_step=6)
            batches = [next(first) for _ in range(12)]
            np.testing.assert_array_equal(next(later), batches[6])  # goes on where it was, on however many
        parts.append(batches)
    together = [np.concatenate(rows) for rows in zip(*parts)]
    np.testing.assert_array_equal(together, whole)
    for epoch in (together[:6], together[6:]):
        assert sorted(np.ravel(epoch)) == list(range(48))
    assert not np.array_equal(together[:6], together[6:])
