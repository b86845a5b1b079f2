"""Somebody's own images through the programs: a folder of pictures or a file of an array, cut, resized, trained on."""

import io
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import chex
import jax
import numpy as np
import pytest
from PIL import Image

from experiments import command_line, compress, curves, evaluate, manifold, reconstruct, sample, train
from experiments.configs import configs_to_train
from experiments.data import ImageFiles
from experiments.data.array_file import headers_of, read_array
from experiments.data.batches import training_batches
from experiments.errors import UserError
from experiments.runs.config_file import from_json, read_config, to_json
from experiments.runs.metrics import read_metrics
from experiments.runs.trained import density_of, restore_run
from tests.hostile import checksum
from tests.runs import changed, cut, final_state, picture

# One process runs them all: they share runs.
pytestmark = pytest.mark.xdist_group("image files")

STEPS = 4


def options(text: str) -> list[str]:
    return text.split()


SMALL = options(
    "--levels 1 --depth 1 --features 2 --batch-size 8 --steps 4 --eval-every 2 --measure-batches 1 --average-decay 0.9"
)
NUMBER = 20


def pixels_of(place: int, shape=(9, 12, 3), low=0, high=256) -> np.ndarray:
    return np.random.default_rng(place).integers(low, high, shape, np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Dark and light pictures in two folders, of several sizes and formats, among files of other kinds."""
    folder = tmp_path_factory.mktemp("pictures")
    for label, low in (("light", 160), ("dark", 0)):
        (folder / label / "deeper").mkdir(parents=True)
        for place in range(NUMBER // 2):
            pixels = pixels_of(place, (9 + place % 3, 12, 3), low, low + 90)
            name = f"{'deeper/' * (place % 2)}{place}.{('png', 'JPG', 'jpeg')[place % 3]}"
            Image.fromarray(pixels).save(folder / label / name)
    (folder / "notes.txt").write_text("not a picture")
    (folder / "dark" / "._0.png").write_text("of another system")
    return folder


def trained(folder: Path, name: str, *given) -> Path:
    run_dir = folder / name
    command_line.run(train.main, ["images", *SMALL, "--run-dir", str(run_dir), *map(str, given)])
    return run_dir


@pytest.fixture(scope="module")
def run_dir(folder, tmp_path_factory):
    """Of a model without labels."""
    return trained(tmp_path_factory.mktemp("runs"), "run", "--images", folder, "--size", 4, "--horizontal-flips")


def opened(path: Path, **asked) -> ImageFiles:
    return ImageFiles(path, **asked).opened()


def complaint(capsys, program, *arguments) -> str:
    """What a program says that ends with one line and exit code 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ending:
        command_line.run(program.main, list(map(str, arguments)))
    said = capsys.readouterr().err.strip()
    assert ending.value.code == 2 and "\n" not in said, said
    return said


# Reading


def test_pictures_are_cut_to_the_square_in_their_middle_and_resized(tmp_path):
    for place in range(10):
        pixels = np.zeros((40, 60 if place % 2 else 90, 3), np.uint8)
        left = (pixels.shape[1] - 40) // 2
        pixels[:, left : left + 20], pixels[:, left + 20 : left + 40] = (250, 0, 100), (10, 200, 30)
        Image.fromarray(pixels).save(tmp_path / f"{place}.png")
    data = opened(tmp_path, size=8)
    assert data.event_shape == (8, 8, 3) and data.classes == 0
    for image in data.examples("train").arrays["image"]:  # what is beside the square is black, and gone
        np.testing.assert_array_equal(image[:, :3], np.broadcast_to([250, 0, 100], (8, 3, 3)))
        np.testing.assert_array_equal(image[:, 5:], np.broadcast_to([10, 200, 30], (8, 3, 3)))
    assert opened(tmp_path).event_shape == (32, 32, 3)


def test_pixels_that_need_no_resizing_stay_as_they_are(tmp_path):
    images = np.stack([pixels_of(place, (6, 6, 3)) for place in range(12)])
    for place, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{place:02d}.png")
    np.save(tmp_path / "a.npy", images)
    np.savez_compressed(tmp_path / "a.npz", images=images, labels=np.arange(12) % 3)
    order = np.random.default_rng(0).permutation(12)
    for data in (opened(tmp_path, size=6), opened(tmp_path / "a.npy"), opened(tmp_path / "a.npz")):
        splits = {split: data.examples(split).arrays for split in ("test", "validation", "train")}
        together = np.concatenate([arrays["image"] for arrays in splits.values()])
        np.testing.assert_array_equal(together, images[order])  # each in one split
        assert [len(arrays["image"]) for arrays in splits.values()] == [1, 1, 10]
        assert data.classes == (3 if data.path.suffix == ".npz" else 0)
        if data.classes:
            labels = np.concatenate([arrays["label"] for arrays in splits.values()])
            np.testing.assert_array_equal(labels, order % 3)
            assert labels.dtype == np.int32


def test_grey_and_colour(tmp_path):
    for place in range(10):
        Image.fromarray(pixels_of(place, (5, 5))).save(tmp_path / f"{place}.png")
    assert opened(tmp_path, size=5).event_shape == (5, 5, 1)
    grey = opened(tmp_path, size=5).examples("train").arrays["image"]
    colour = opened(tmp_path, size=5, channels=3).examples("train").arrays["image"]
    np.testing.assert_array_equal(colour, grey.repeat(3, axis=-1))
    Image.fromarray(pixels_of(0, (5, 5, 3))).save(tmp_path / "x.jpg")
    assert opened(tmp_path, size=5).event_shape == (5, 5, 3)  # since one has colour
    assert opened(tmp_path, size=5, channels=1).event_shape == (5, 5, 1)
    np.save(tmp_path / "a.npy", pixels_of(1, (10, 5, 4)))
    assert opened(tmp_path / "a.npy").event_shape == (5, 4, 1)
    np.testing.assert_array_equal(
        opened(tmp_path / "a.npy", channels=3).examples("test").arrays["image"],
        opened(tmp_path / "a.npy").examples("test").arrays["image"].repeat(3, axis=-1),
    )
    assert opened(tmp_path / "a.npy", size=2, channels=3).event_shape == (2, 2, 3)


def test_what_is_transparent_is_white_and_what_lies_on_its_side_is_put_upright(tmp_path):
    for place in range(10):
        layers = np.zeros((4, 4, 4), np.uint8)
        layers[:2] = (200, 0, 0, 255)  # below, a black that is not to be seen
        Image.fromarray(layers).save(tmp_path / f"{place}.png")
    image = opened(tmp_path, size=4).examples("test").arrays["image"][0]
    assert np.all(image[:2] == (200, 0, 0)) and np.all(image[2:] == 255)
    picture = Image.fromarray(np.repeat([[0] * 8, [255] * 8], 4, axis=0).astype(np.uint8))
    exif = picture.getexif()
    exif[0x0112] = 6  # to be turned by a quarter
    for place in range(10):
        picture.save(tmp_path / f"{place}.png", exif=exif)
    image = opened(tmp_path, size=8).examples("test").arrays["image"][0, ..., 0]
    assert np.all(image[:, :4] == 255) and np.all(image[:, 4:] == 0)


def test_folders_are_labels(folder):
    data = opened(folder, size=4)
    assert data.found.labels == ("dark", "light") and data.classes == 2 and data.found.number == NUMBER
    for split in ("test", "validation", "train"):
        arrays = data.examples(split).arrays
        np.testing.assert_array_equal(arrays["image"].mean(axis=(1, 2, 3)) > 120, arrays["label"] == 1)
    assert data.remarks()[0] == (
        f"{folder.name}: 20 images of 4x4x3, 16 of them to train on, labelled dark, light: --classes 2 gives the model "
        "the labels"
    )
    one = opened(folder / "dark", size=16)  # its own folder holds others beside pictures: no labels
    assert one.classes == 0 and one.remarks()[1] == "10 of them are smaller than 16 pixels and were enlarged"
    batch = next(training_batches(data.examples("train", for_training=True), _config(data)))
    assert batch["image"].shape == (32, 4, 4, 3) and batch["label"].shape == (32,)
    blank = data.blank_batch(32)
    assert {n: (a.shape, a.dtype) for n, a in blank.items()} == {n: (a.shape, a.dtype) for n, a in batch.items()}


def _config(data):
    config = configs_to_train()["images"][1]
    return changed(config, data={"path": data.path, "size": data.size}, model={"levels": 1}).opened()


class Trap:
    def __reduce__(self):
        return os.system, ("touch sprung",)


def pictures(path: Path, number: int = 10) -> None:
    path.mkdir()
    for place in range(number):
        Image.fromarray(pixels_of(place, (6, 6, 3))).save(path / f"{place}.png")


def with_one_more(path: Path, name: str, content: bytes) -> None:
    pictures(path)
    (path / name).write_bytes(content)


def saved(image: Image.Image, **how) -> bytes:
    file = io.BytesIO()
    image.save(file, **how)
    return file.getvalue()


PICTURE = saved(Image.fromarray(pixels_of(0)), format="png")
DEEP = saved(Image.fromarray(np.zeros((4, 4), np.uint16)), format="png")
VAST = saved(Image.new("1", (20_000, 20_000)), format="png")
IMAGES = np.zeros((20, 4, 4), np.uint8)
HOSTILE = {
    "nothing there": (lambda path: None, "is not there: name the place"),
    "an empty folder": (lambda path: path.mkdir(), "holds no picture: expected .png, .jpg, .jpeg files"),
    "too few": (lambda path: pictures(path, 9), "expected at least 10 images, got 9"),
    "a file that is none": (lambda path: with_one_more(path, "x.png", b"no picture"), "x.png cannot be read as a pict"),
    "a file cut short": (lambda path: with_one_more(path, "x.png", cut(PICTURE)), "x.png cannot be read as a picture"),
    "an empty file": (lambda path: with_one_more(path, "x.jpg", b""), "x.jpg cannot be read as a picture"),
    "another kind by its name": (
        lambda path: with_one_more(path, "x.png", saved(Image.new("RGB", (4, 4)), format="gif")),
        "x.png cannot be read as a picture",
    ),
    "16 bits": (
        lambda path: with_one_more(path, "x.png", DEEP),
        "x.png: expected a picture of 8 bits a colour, got mode",
    ),
    "400 million pixels in a small file": (lambda path: with_one_more(path, "x.png", VAST), "x.png cannot be read"),
    "a text": (lambda path: path.write_text("1,2"), "expected a folder of .png, .jpg, .jpeg files, or a .npy or .npz"),
}
ARRAYS = {
    "real numbers": (lambda path: np.save(path, IMAGES / 255), "expected a uint8 array (number, height, width)"),
    "channels first": (lambda path: np.save(path, np.zeros((20, 3, 4, 4), np.uint8)), "got uint8 (20, 3, 4, 4)"),
    "transparent": (lambda path: np.save(path, np.zeros((20, 4, 4, 4), np.uint8)), "got uint8 (20, 4, 4, 4)"),
    "one image": (lambda path: np.save(path, np.zeros((4, 4), np.uint8)), "got uint8 (4, 4)"),
    "no height": (lambda path: np.save(path, np.zeros((20, 0, 4), np.uint8)), "got uint8 (20, 0, 4)"),
    "too few": (lambda path: np.save(path, IMAGES[:9]), "expected at least 10 images, got 9"),
    "objects": (lambda path: np.save(path, np.array([Trap()] * 20, object), allow_pickle=True), "holds no array that"),
    "noise": (lambda path: path.write_bytes(np.random.default_rng(0).bytes(500)), "holds no array that can be read"),
}
ARCHIVES = {
    "two arrays": (lambda path: np.savez(path, a=IMAGES, b=IMAGES), "expected an array images, and one of labels if"),
    "no array": (lambda path: np.savez(path), "expected an array images, and one of labels if there are any, got none"),
    "objects": (
        lambda path: np.savez(path, images=np.array([Trap()] * 20, object), allow_pickle=True),
        "expected a uint8 array",
    ),
    "labels of objects": (
        lambda path: np.savez(path, images=IMAGES, labels=np.array([Trap()] * 20, object), allow_pickle=True),
        "expected labels as whole numbers of shape (20,), got object (20,)",
    ),
    "too few labels": (
        lambda path: np.savez(path, images=IMAGES, labels=np.arange(19)),
        "of shape (20,), got int64 (19,)",
    ),
    "labels below 0": (lambda path: np.savez(path, images=IMAGES, labels=-np.arange(20)), "got -19 to 0"),
    "labels of millions": (
        lambda path: np.savez(path, images=IMAGES, labels=10**6 * np.arange(20)),
        "got 0 to 19000000",
    ),
    "cut short": (
        lambda path: (np.savez(path, IMAGES), path.write_bytes(cut(path.read_bytes()))),
        "no array that can be",
    ),
    "no zip file": (lambda path: path.write_bytes(PICTURE), "holds no array that can be read"),
}


@pytest.mark.parametrize(
    "name, wrong",
    [(name, wrong) for name, table in (("a", HOSTILE), ("a.npy", ARRAYS), ("a.npz", ARCHIVES)) for wrong in table],
)
def test_what_cannot_be_trained_on_is_refused_in_one_line(name, wrong, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, said = {"a": HOSTILE, "a.npy": ARRAYS, "a.npz": ARCHIVES}[name][wrong]
    make(tmp_path / name)
    with pytest.raises(UserError) as error:
        train.main(["images", *SMALL, "--images", str(tmp_path / name), "--run-dir", str(tmp_path / "never")])
    assert said in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "never").exists() and not (tmp_path / "sprung").exists()


def test_an_archive_is_never_unpickled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("a.npz", a=np.array([Trap()] * 3, object), allow_pickle=True)
    assert headers_of(Path("a.npz"))["a"].dtype == object
    with pytest.raises(UserError, match="holds no array that can be read"):
        read_array(Path("a.npz"), "a")
    assert not Path("sprung").exists()


def test_options_that_do_not_fit(folder, tmp_path, capsys):
    for given, said in (
        ((), "no data are named: expected where they lie (--images FOLDER or FILE"),
        (("--images", folder, "--size", "0"), "--size 0: expected above 0"),
        (("--images", folder, "--size", "6", "--levels", "2"), "divisible by 4, got (6, 6, 3)"),
        (("--images", folder, "--size", "8", "--shifts", "9"), "--shifts 9: expected at least 0, at most 8"),
        (("--images", folder, "--size", "8", "--classes", "3"), "--classes 3: "),
        (("--images", folder / "dark", "--size", "8", "--classes", "2"), "has 0 classes"),
        (("--images", folder, "--channels", "2"), "2"),
        (("--images", folder, "--test-percent", "0"), "at least 1"),
    ):
        run_dir = tmp_path / "never"
        assert said in complaint(capsys, train, "images", *SMALL, *given, "--run-dir", run_dir) and not run_dir.exists()


def test_images_that_memory_does_not_hold_are_refused_before_they_are_read(folder, tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", images=np.zeros((1000, 32, 32), np.uint8))  # a thousand bytes
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PAGE_SIZE": 4096}.get(name, 1))
    for path in (folder, tmp_path / "a.npz"):
        with pytest.raises(UserError, match="more than half of this machine's"):
            opened(path)


# Runs


def test_a_run_is_evaluated_and_shown_by_every_program(run_dir, folder, tmp_path, capsys):
    config = read_config(run_dir)
    assert config.data.found.image_shape == (4, 4, 3) and config.data.path == folder
    assert from_json(json.loads(json.dumps(to_json(config)))) == config
    held_out = [line for line in read_metrics(run_dir) if line["split"] == "validation"]
    assert [line["step"] for line in held_out] == [2, 4] and (run_dir / "samples_000004.png").exists()
    evaluate.main([str(run_dir), "--draws", "2"])
    assert "bits/dim on 2 examples" in capsys.readouterr().out
    images = ["--images", "0", "1"]
    for program, given in (
        (sample, ["--num", "6"]),
        (reconstruct, images),
        (compress, images),
        (manifold, ["--images", "0", "1", "0", "1", "--steps", "2"]),
        (curves, []),
    ):
        out = tmp_path / f"{program.__name__}.png"
        command_line.run(program.main, [str(run_dir), *given, "--out", str(out)])
        assert str(out) in capsys.readouterr().out and min(picture(out).size) > 20
    assert "--size 8: this model has parameters for one" in complaint(capsys, sample, run_dir, "--size", "8")


def test_a_stopped_run_goes_on_bit_for_bit(run_dir, folder, tmp_path, capsys):
    moved, stopped = (
        Path(shutil.copytree(folder, tmp_path / "moved")),
        Path(shutil.copytree(run_dir, tmp_path / "stopped")),
    )
    shutil.rmtree(stopped / "checkpoints" / str(STEPS))
    trained(tmp_path, "stopped", "--images", moved, "--size", 4, "--horizontal-flips")
    assert "going on from step 2" in capsys.readouterr().out
    chex.assert_trees_all_equal(final_state(stopped, STEPS), final_state(run_dir, STEPS))


def test_bits_are_those_of_the_images_in_the_files(run_dir, folder, capsys):
    """By numpy and Pillow alone: which files are for tests, what they hold, and bits of nats."""
    files = [path for path in folder.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg")]
    files = sorted(
        (path for path in files if not path.name.startswith(".")), key=lambda path: str(path.relative_to(folder))
    )
    chosen = [files[place] for place in np.random.default_rng(0).permutation(NUMBER)[:2]]
    images = []
    for path in chosen:
        image = picture(path).convert("RGB")
        side, left, top = min(image.size), (image.width - min(image.size)) // 2, (image.height - min(image.size)) // 2
        image = image.crop((left, top, left + side, top + side)).resize((4, 4), Image.Resampling.BILINEAR)
        images.append(np.asarray(image))
    data = read_config(run_dir).data
    np.testing.assert_array_equal(data.examples("test").arrays["image"], images)
    # Even noise within a pixel: the mean of many draws of −log₂ p(x) / D + 8 is what evaluate's noise gives, nearly.
    config, _, train_state = restore_run(run_dir, "best")
    log_prob = jax.jit(density_of(config, train_state).log_prob)
    rng, bits = np.random.default_rng(0), []
    for _ in range(20):
        x = ((np.stack(images) + rng.random((2, 4, 4, 3))) / 256).astype(np.float32)
        bits.append(8 - np.asarray(log_prob(x)) / (48 * np.log(2)))
    evaluate.main([str(run_dir), "--json", "--draws", "20"])
    result = json.loads(capsys.readouterr().out.splitlines()[-1])["result"]
    np.testing.assert_allclose(result["bits_per_dim"], np.mean(bits), atol=2e-3)


def test_labels_from_folders(folder, tmp_path, capsys):
    run_dir = trained(tmp_path, "run", "--images", folder, "--size", 4, "--classes", 2, "--noise", "gaussian")
    evaluate.main([str(run_dir)])
    said = capsys.readouterr().out
    assert "given their labels" in said and "no bound for the images themselves" in said
    sample.main([str(run_dir), "--out", str(tmp_path / "a.png")])
    assert "20 samples" in capsys.readouterr().out
    data = read_config(run_dir).data
    assert sample.draws_of(read_config(run_dir)).row_titles == ["dark", "light"]
    long = replace(data, found=replace(data.found, labels=("a\x1b[2J", "b" * 300)))
    assert long.label_names == ("a\\x1b[2J", "b" * 20)


def test_images_that_changed_are_never_gone_on_with(run_dir, folder, tmp_path, capsys):
    there, copy = Path(shutil.copytree(folder, tmp_path / "there")), Path(shutil.copytree(run_dir, tmp_path / "run"))
    arguments = ["images", *SMALL, "--images", there, "--size", "4", "--horizontal-flips", "--run-dir", copy]
    before = checksum(copy)

    def refused():
        assert "began with other data than" in complaint(capsys, train, *arguments)
        for program in (evaluate, reconstruct, manifold):
            assert "has changed since the run began, or is another" in complaint(capsys, program, copy, "--data", there)
        assert checksum(copy) == before

    Image.fromarray(pixels_of(99)).save(there / "dark" / "more.png")
    refused()
    (there / "dark" / "more.png").unlink()
    (there / "dark" / "0.png").rename(there / "dark" / "00.png")  # which images are for tests follows from names
    refused()
    (there / "dark" / "00.png").rename(there / "dark" / "0.png")
    (there / "notes.txt").write_text("what is no picture may change")
    command_line.run(train.main, list(map(str, arguments)))

    shutil.rmtree(there)
    assert "is not there: name the place where the data lie now" in complaint(capsys, evaluate, copy)
    sample.main([str(copy), "--num", "2"])  # needs none
    evaluate.main([str(copy), "--data", str(folder)])
    record = json.loads((copy / "evaluation_test.json").read_text())
    assert record["config"]["data"]["path"] is None and record["data_set"]["version"] == "20 images"


@pytest.mark.parametrize(
    "name, value", [("image_shape", [4, 4, 2]), ("image_shape", [2**20, 2**20, 3]), ("number", 0), ("labels", "dark")]
)
def test_what_a_config_says_was_found_is_checked(name, value, run_dir, tmp_path):
    values = json.loads((run_dir / "config.json").read_text())
    values["data"]["found"][name] = value
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match="cannot be read") as error:
        read_config(tmp_path)
    assert "\n" not in str(error.value)
