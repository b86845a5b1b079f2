"""config.json: what is written is read back; what an older file lacks takes its default; anything else is refused."""

import copy
import dataclasses
import itertools
import json
import re

import pytest

from experiments import train
from experiments.choices import with_choices
from experiments.config import Config, Training
from experiments.configs import all_configs
from experiments.data import ImageData, TableData
from experiments.data.noise import NOISES, Learned
from experiments.errors import UserError
from experiments.runs.config_file import from_json, read_config, to_json
from nvpjax.models import MAF, MODELS, RealNVP

IMAGES, ROWS = ImageData("cifar10", (32, 32, 3)), TableData("breast_cancer", 30)


def takes(model, data) -> bool:
    try:
        model.build(data.event_shape)
    except ValueError:
        return False
    return True


PAIRS = [
    (name, noise, data)
    for name, noise in itertools.product(MODELS, [*NOISES, None])
    for data in [dataclasses.replace(IMAGES, noise=NOISES[noise]()) if noise else ROWS]
    if takes(MODELS[name](), data)
]
"""Each model with each noise on images, and on a table, where it fits."""


def test_every_model_has_data_that_it_fits():
    assert {name for name, _, _ in PAIRS} == set(MODELS)
    assert {noise for _, noise, _ in PAIRS} == {*NOISES, None}


def read_back(config: Config) -> Config:
    return from_json(json.loads(json.dumps(to_json(config))))


@pytest.mark.parametrize("name", all_configs())
def test_every_config_is_read_back(name):
    config = all_configs()[name][1]
    assert read_back(config) == config


@pytest.mark.parametrize("name, noise, data", PAIRS)
def test_every_model_and_noise_is_read_back(name, noise, data):
    config = Config("made_up", data, MODELS[name](), Training(seed=7, average_decay=0.5))
    assert read_back(config) == config


def test_values_that_are_no_defaults_are_read_back():
    data = dataclasses.replace(IMAGES, noise=Learned(noise_features=5), crop=(0, 30, 1, 31), resize=32, classes=10)
    config = Config("made_up", data, RealNVP(classes=10, alpha=0, lag=0.5), published=3.5, published_by="somebody")
    assert read_back(config) == config and config.data.noise.noise_features == 5
    table = Config("made_up", ROWS, MAF(hidden=(3, 4), transform="spline"))
    assert read_back(table).model.hidden == (3, 4)


def with_defaults(values: dict, value):
    """Every JSON that lacks one field with a default, and the name of the field."""
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name)
        if field.default is not dataclasses.MISSING:
            assert inner == field.default, "a config of defaults"
            yield field.name, {name: entry for name, entry in values.items() if name != field.name}
        if dataclasses.is_dataclass(inner):
            for name, without in with_defaults(values[field.name], inner):
                yield f"{field.name}.{name}", {**values, field.name: without}


@pytest.mark.parametrize("name, noise, data", [pair for pair in PAIRS if pair[1] in ("uniform", None)])
def test_a_field_that_an_older_file_lacks_takes_its_default(name, noise, data):
    config = Config("made_up", data, MODELS[name]())
    lacking = dict(with_defaults(to_json(config), config))
    assert {"training", "training.average_decay", "published"} <= set(lacking)
    assert any(name.startswith("model.") for name in lacking)
    for name, values in lacking.items():
        assert from_json(values) == config, name


WRONG = {
    "a field that is not known": ({"model": {"depths": 3}}, "config.model: fields depths are not known"),
    "a part that is not known": ({"optimizer": {}}, "config: fields optimizer are not known"),
    "a word for a number": ({"model": {"features": "many"}}, "config.model.features: expected int, got 'many'"),
    "true for a number": ({"training": {"seed": True}}, "config.training.seed: expected int, got True"),
    "a float for a whole number": ({"training": {"steps": 3.5}}, "config.training.steps: expected int, got 3.5"),
    "a number for a truth": ({"data": {"horizontal_flips": 1}}, "config.data.horizontal_flips: expected bool, got 1"),
    "a list for a part": ({"training": []}, "config.training: expected the fields of Training, got list"),
    "a shape of two": ({"data": {"image_shape": [32, 32]}}, "expected a list of 3, got [32, 32]"),
    "an unknown kind of data": (
        {"data": {"kind": "sounds"}},
        "expected a kind among images, table, image_files, table_file, got 'sounds'",
    ),
    "a kind that is a list": ({"model": {"kind": ["glow"]}}, "expected a kind among real_nvp,"),
    "an unknown noise": (
        {"data": {"noise": {"kind": "pink"}}},
        "learned_affine, gaussian, got 'pink'",
    ),
    "another model's fields": ({"model": {"kind": "glow"}}, "config.model: fields blocks, lag"),
    "a model that does not fit": ({"model": {"scales": 9}}, "made_up: RealNVP: expected an event_shape"),
    "no learning rate": ({"training": {"learning_rate": float("nan")}}, "--learning-rate nan: expected above 0"),
    "no penalty": ({"training": {"scale_penalty": float("inf")}}, "--scale-penalty inf: expected at least 0"),
    "no alpha": ({"model": {"alpha": float("nan")}}, "Logit: expected alpha to be a finite number, got nan"),
    "a way back that is not known": ({"training": {"memory": "little"}}, "stored, checkpointed, reversible"),
    "classes that the data do not have": ({"model": {"classes": 10}}, "--classes 10: cifar10 has 0 classes"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_refused_in_one_line(wrong, tmp_path):
    changes, said = WRONG[wrong]
    values = to_json(Config("made_up", IMAGES, RealNVP()))
    for part, fields in changes.items():
        values[part] = {**values.get(part, {}), **fields} if isinstance(fields, dict) else fields
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match=re.escape(said)) as error:
        read_config(tmp_path)
    assert "\n" not in str(error.value) and "config.json cannot be read" in str(error.value)


def test_what_is_missing_is_refused(tmp_path):
    values = to_json(Config("made_up", IMAGES, RealNVP()))
    for path, said in ((("model",), "fields model are missing"), (("data", "dataset"), "fields dataset are missing")):
        lacking = copy.deepcopy(values)
        part = lacking
        for name in path[:-1]:
            part = part[name]
        del part[path[-1]]
        with pytest.raises(ValueError, match=said):
            from_json(lacking)


OF_VERSION_0_1 = """{"name": "digits", "dataset": "digits", "image_shape": [8, 8, 1], "levels": 17,
"test_split": "test", "crop": null, "resize": null, "published": null, "published_by": "", "data_dir": "data",
"validation_percent": 10, "horizontal_flips": false, "shifts": 1, "scales": 2, "features": 16, "blocks": 2,
"alpha": 0.01, "learned_prior": false, "lag": 0.0, "batch_size": 64, "steps": 1200,
"learning_rate": 0.001, "final_learning_rate": 1e-05, "warmup_steps": 50,
"gradient_clip": 100.0, "scale_penalty": 5e-05, "weight_decay": 0.0, "measure_batches": 30, "eval_every": 150,
"log_every": 10, "seed": 0}"""


def test_a_config_of_version_0_1_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "config.json").write_text(OF_VERSION_0_1)
    with pytest.raises(UserError, match=r"before version 0\.2: use the version that wrote it, or train anew") as error:
        read_config(tmp_path)
    assert "\n" not in str(error.value)


def options_of(arguments, capsys) -> str:
    with pytest.raises(SystemExit) as ending:
        train.main([*arguments, "--help"])
    assert ending.value.code in (0, None)
    return capsys.readouterr().out


def flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


@pytest.mark.parametrize("name", MODELS)
def test_help_shows_the_options_of_the_model_that_is_asked_for(name, capsys):
    on = "digits" if takes(MODELS[name](), all_configs()["digits"][1].data) else "breast_cancer"
    said = options_of([on, "--model", name], capsys)
    own = {field.name for field in dataclasses.fields(MODELS[name])}
    others = {field.name for kind in MODELS.values() for field in dataclasses.fields(kind)} - own
    shared = {field.name for kind in (Training, ImageData, TableData) for field in dataclasses.fields(kind)}
    assert all(re.search(rf"{flag(option)}\b", said) for option in own)
    assert not any(re.search(rf"{flag(option)}[ =,\n]", said) for option in others - shared)
    assert all(flag(field.name) in said for field in dataclasses.fields(Training))


@pytest.mark.parametrize("noise", NOISES)
def test_help_shows_the_options_of_the_noise_that_is_asked_for(noise, capsys):
    said = options_of(["digits", "--noise", noise], capsys)
    own = {field.name for field in dataclasses.fields(NOISES[noise])}
    others = {field.name for kind in NOISES.values() for field in dataclasses.fields(kind)} - own
    assert all(flag(option) in said for option in own) and not any(flag(option) in said for option in others)


def test_model_and_noise_may_stand_anywhere_and_the_last_one_counts():
    configs = all_configs()
    chosen, rest = with_choices(configs, ["digits", "--steps", "3", "--model=glow", "--seed", "1", "--model", "nice"])
    assert type(chosen["digits"][1].model) is MODELS["nice"] and rest == ["digits", "--steps", "3", "--seed", "1"]
    assert chosen["mnist"] == configs["mnist"]
    chosen, _ = with_choices(configs, ["cifar10", "--model", "real_nvp", "--noise=learned"])
    assert chosen["cifar10"][1].model == configs["cifar10"][1].model  # the config's own sizes stay
    assert chosen["cifar10"][1].data.noise == Learned() and chosen["cifar10"][1].published == 3.49
    chosen, _ = with_choices(configs, ["cifar10", "--model", "glow"])
    assert chosen["cifar10"][1].published is None and chosen["cifar10"][1].published_by == ""


def test_what_outlasts_the_steps_is_said():
    assert Training(steps=1000, warmup_steps=100, average_decay=0.99).remarks() == []
    warmup, averages = Training(steps=60, warmup_steps=100, average_decay=0.999).remarks()
    assert warmup.startswith("--warmup-steps 100") and "--warmup-steps 6 would be usual" in warmup
    assert averages.startswith("--average-decay 0.999") and "of the start by 94%" in averages
    assert Training(steps=0, warmup_steps=100, average_decay=0.999).remarks() == []
