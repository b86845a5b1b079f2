"""Every config reads its data set: made-up sets of the same features, through the code that real ones take."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest
import sklearn.datasets
import tensorflow_datasets as tfds
from PIL import Image

from experiments.config import Config, Training
from experiments.configs import all_configs
from experiments.data import ImageData, TableData
from experiments.data.batches import training_batches
from experiments.data.data import InMemory
from experiments.data.images import pick_images
from experiments.data.preprocessing import cut_and_resize
from experiments.errors import UserError
from nvpjax import RealNVP
from tests.runs import config_of

GUIDE = Path(__file__).parent.parent / "docs" / "data.md"

image_of = tfds.features.Image
LABEL = tfds.features.ClassLabel(num_classes=10)
SETS = {
    # name: (version, features, shape of what is made up, name of the split for tests)
    "mnist": ("3.0.1", {"image": image_of(shape=(28, 28, 1)), "label": LABEL}, (28, 28), "test"),
    "cifar10": (
        "3.0.2",
        {"id": tfds.features.Text(), "image": image_of(shape=(32, 32, 3)), "label": LABEL},
        (32, 32, 3),
        "test",
    ),
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
    """Write a data set where ``dataset`` would lie: random images; where there are labels, all pixels are the label."""
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
                pixels, label = rng.integers(0, 256, shape, np.uint8), int(rng.integers(10))
                if "label" in features:
                    pixels[:] = label
                example = {"image": Image.fromarray(pixels), "label": label, "id": str(index)}
                yield index, {name: example[name] for name in features}

    MadeUp.name = name
    MadeUp(data_dir=data_dir, file_format="array_record", **({"config": part} if part else {})).download_and_prepare()


IMAGES = sorted(name for name, (_, config) in all_configs().items() if isinstance(config.data, ImageData))


@pytest.mark.parametrize("name", sorted(set(IMAGES) - {"digits", "patches"}))
def test_every_config_reads_its_data_set(name, tmp_path):
    config = config_of(name, data={"data_dir": tmp_path, "validation_percent": 25}, training={"batch_size": 8})
    data = config.data
    prepare(tmp_path, data.dataset)
    splits = {split: data.examples(split) for split in ("train", "validation", "test")}
    assert [len(found) for found in splits.values()] == [18, 6, 5]
    for found in splits.values():
        assert found[0]["image"].shape == data.image_shape and found[0]["image"].dtype == np.uint8
    batch = next(training_batches(data.examples("train", for_training=True), config))
    assert batch["image"].shape == (8, *data.image_shape) and batch["image"].dtype == np.uint8
    assert batch["image"].std() > 0
    picked = pick_images(data, "test", (4, 0))
    assert picked["image"].shape == (2, *data.image_shape)
    np.testing.assert_array_equal(picked["image"][1], splits["test"][0]["image"])
    blank = data.blank_batch(8)
    assert {name: (a.shape, a.dtype) for name, a in blank.items()} == {n: (a.shape, a.dtype) for n, a in batch.items()}
    with pytest.raises(UserError, match="no test image 5"):
        pick_images(data, "test", (5,))


@pytest.mark.parametrize("name", ["cifar10", "mnist"])
def test_labels_are_those_of_their_images(name, tmp_path):
    """Made-up images of label n are all grey n: whatever the order, augmentation and batch."""
    config = config_of(name, data={"data_dir": tmp_path, "validation_percent": 25}, training={"batch_size": 8})
    prepare(tmp_path, config.data.dataset)
    batches = training_batches(config.data.examples("train", for_training=True), config)
    for batch in (next(batches), next(batches), config.data.examples("test").arrays):
        assert batch["label"].dtype == np.int32 and batch["label"].shape == batch["image"].shape[:1]
        np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], batch["label"])
        assert len(set(batch["label"])) > 1


def test_a_set_of_another_shape_is_refused(tmp_path):
    prepare(tmp_path, "lsun/tower")
    data = config_of("cifar10", data={"data_dir": tmp_path, "dataset": "lsun/tower", "classes": 0}).data
    with pytest.raises(UserError, match=r"expected 8-bit images of 32x32x3 .* got 384x256x3"):
        data.examples("train")
    with pytest.raises(UserError, match="cannot be read"):
        data.examples("test")


def test_celeba_is_cut_and_resized_as_published():
    image = np.zeros((218, 178, 3), np.uint8)
    image[40:188, 15:163] = 200  # what is cut out, and nothing else, is light
    image[114, 89] = 0
    resized = cut_and_resize(image, all_configs()["celeba"][1].data)
    assert resized.shape == (64, 64, 3) and resized[0, 0, 0] == resized[-1, -1, 0] == 200
    # A dark pixel in 148x148 darkens its neighbourhood by its share of the area: nothing is skipped over.
    np.testing.assert_allclose((200 - resized[..., 0].astype(float)).sum() * (148 / 64) ** 2, 200, rtol=0.1)


def test_crops_of_lsun_are_random_in_training_and_the_middle_in_evaluation(tmp_path):
    prepare(tmp_path, "lsun/bedroom")
    config = config_of(
        "lsun_bedroom",
        data={"data_dir": tmp_path, "validation_percent": 25, "horizontal_flips": False},
        training={"batch_size": 18},
    )
    resized = config.data.examples("train", for_training=True)
    source = resized[0]["image"]
    assert source.shape == (96, 128, 3)
    np.testing.assert_array_equal(config.data.examples("train")[0]["image"], source[16:80, 32:96])
    first, second = (next(training_batches(resized, config, step))["image"] for step in (0, 1))
    rows = np.lib.stride_tricks.sliding_window_view(source[:33], (64, 3), axis=(1, 2))[:, :, 0]  # tops of all crops

    def places(batch):
        return [tuple(place) for image in batch for place in np.argwhere((rows == image[0]).all(axis=(-2, -1)))]

    assert len(places(first)) == len(places(second)) == 1 and places(first) != places(
        second
    )  # once an epoch, elsewhere


def test_patches_for_testing_share_no_pixels_with_those_for_training(tmp_path):
    data = config_of("patches", data={"data_dir": tmp_path}).data
    train, test = (data.examples(split).arrays["image"] for split in ("train", "test"))
    rows = {row.tobytes() for image in train for row in image.reshape(-1, 8 * 3)}  # of 8 neighbouring pixels
    shared = [sum(row.tobytes() in rows for row in image.reshape(-1, 8 * 3)) for image in test]
    assert len(test) == 74 and np.mean(shared) < 0.05 * 128  # but for plain sky, no row is seen in both


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_read_disjoint_rows_that_are_together_each_image_once_an_epoch(processes, monkeypatch):
    images = InMemory({"image": np.arange(48, dtype=np.uint8).reshape(48, 1, 1, 1)})  # each image is its own number
    config = config_of("digits", data={"shifts": 0}, training={"batch_size": 8})
    whole = [next(batches)["image"] for batches in [training_batches(images, config)] for _ in range(12)]

    parts = []
    for process in range(processes):
        with monkeypatch.context() as context:
            context.setattr(jax, "process_count", lambda: processes)
            context.setattr(jax, "process_index", lambda process=process: process)
            first, later = training_batches(images, config), training_batches(images, config, first_step=6)
            batches = [next(first)["image"] for _ in range(12)]
            np.testing.assert_array_equal(next(later)["image"], batches[6])  # goes on where it was, on however many
        parts.append(batches)
    together = [np.concatenate(rows) for rows in zip(*parts)]
    np.testing.assert_array_equal(together, whole)
    for epoch in (together[:6], together[6:]):
        assert sorted(np.ravel(epoch)) == list(range(48))
    assert not np.array_equal(together[:6], together[6:])


@pytest.mark.parametrize("dataset, columns", [("breast_cancer", 30), ("wine", 13), ("iris", 4), ("diabetes", 10)])
def test_tables_are_divided_and_standardised_by_their_training_rows(dataset, columns):
    data = TableData(dataset, columns)
    splits = {name: data.examples(name).arrays["x"] for name in ("train", "validation", "test")}
    rows = np.asarray(getattr(sklearn.datasets, f"load_{dataset}")().data)
    assert sum(map(len, splits.values())) == len(rows)
    assert all(x.dtype == np.float32 and x.shape[1:] == (columns,) for x in splits.values())
    np.testing.assert_allclose(splits["train"].mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(splits["train"].std(axis=0), 1, atol=1e-4)
    # Each row is one example, by one affine map of each column: together they are the table.
    together = np.concatenate(list(splits.values()))
    standard = (together - together.mean(axis=0)) / together.std(axis=0)
    expected = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    np.testing.assert_allclose(np.sort(standard, axis=0), np.sort(expected, axis=0), atol=1e-4)
    assert data.examples("test")[3]["x"].shape == data.event_shape and data.version()[1] != data.dataset
    np.testing.assert_array_equal(data.examples("test").arrays["x"], splits["test"])


def test_tables_that_are_not_there_or_of_other_columns():
    with pytest.raises(UserError, match="no table chairs"):
        TableData("chairs", 3).examples("train")
    with pytest.raises(UserError, match=r"wine: expected 3 columns, got shape \(178, 13\)"):
        TableData("wine", 3).examples("train")
    with pytest.raises(UserError, match="unknown split all"):
        TableData("wine", 13).examples("all")


def test_config_of_the_guide_to_data():
    block = re.search(r"```python\n(.*?)```", GUIDE.read_text(), flags=re.DOTALL)[1]
    names = {"Config": Config, "Training": Training, "ImageData": ImageData, "RealNVP": RealNVP}
    exec(compile(block, GUIDE.name, "exec"), names)  # our own text, as a reader would write it
    assert names["CONFIG"].data.event_shape == (64, 64, 3) and names["CONFIG"].model.scales == 4
