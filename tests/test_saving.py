"""Densities as files: what is read back equals what was saved, and a file from elsewhere does no harm."""

import json
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

from nvpjax import (
    Affine,
    Chain,
    ChannelMask,
    Coupling,
    Flow,
    Glow,
    NormalMixture,
    OnLeaf,
    Scale,
    SplineCoupling,
    StandardNormal,
    StatelessBijector,
    load,
    save,
)
from nvpjax.description import describe, make
from nvpjax.nets import MLP, FlaxConditioner
from tests.zoo import ZOO


@dataclass(frozen=True)
class Doubled(StatelessBijector):
    """y = 2 x"""

    by: float = 2.0

    def forward_and_log_det(self, params, x, context):
        return self.by * x, jnp.full(len(x), x.shape[1] * jnp.log(self.by))

    def inverse_and_log_det(self, params, y, context):
        return y / self.by, jnp.full(len(y), -y.shape[1] * jnp.log(self.by))


def cubed(x):
    return x**3


class Net(linen.Module):
    features: int = 4

    @linen.compact
    def __call__(self, x, outputs):
        return linen.Dense(outputs)(jnp.tanh(linen.Dense(self.features)(x)))


def made(flow, x, context=None):
    """The density of a flow, with numbers moved away from the start."""
    params, state = jax.jit(flow.init)(jax.random.key(0), x, context)
    move = lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(leaf.size), leaf.shape, leaf.dtype)  # noqa: E731
    return flow.at(jax.tree.map(move, params), state)


def expect_same(density, again):
    assert again.flow == density.flow and hash(again.flow) == hash(density.flow)
    assert jax.tree.structure(again) == jax.tree.structure(density)
    for one, other in zip(jax.tree.leaves(density), jax.tree.leaves(again)):
        assert one.dtype == other.dtype and np.asarray(one).tobytes() == np.asarray(other).tobytes()


@pytest.mark.parametrize("name", ZOO)
def test_every_bijector_reads_back_as_itself(name):
    described, arrays = describe(ZOO[name].bijector, "here", ())
    again = make(json.loads(json.dumps(described)), arrays, ())
    assert again == ZOO[name].bijector and not arrays


X = jax.random.uniform(jax.random.key(3), (8, 4))
IMAGES = jax.random.uniform(jax.random.key(4), (8, 4, 4, 1))
OWN = Flow(Chain((Doubled(1.5), Coupling(ChannelMask("first"), Affine(), MLP((4,), cubed)))))
FLOWS = {
    "spline": (SplineCoupling(layers=2, hidden=(4,)).build((4,)), X, ()),
    "images in bfloat16": (Glow(2, 1, 4, classes=3).build((4, 4, 1), network_dtype=jnp.bfloat16), IMAGES, ()),
    "mixture": (Flow(Scale(), NormalMixture(3)), X, ()),
    "tree": (Flow(OnLeaf(Scale(), "a")), {"a": X, "b": X[:, :1]}, ()),
    "own": (OWN, X, (Doubled, cubed)),
    "Flax": (Flow(Coupling(ChannelMask("first"), Affine(), FlaxConditioner(Net(3)))), X, (Net,)),
}


@pytest.mark.parametrize("name", FLOWS)
def test_density_reads_back_bit_for_bit(name, tmp_path):
    flow, x, known = FLOWS[name]
    context = jnp.arange(8) % 3 if name.startswith("images") else None
    density = made(flow, x, context)
    save(tmp_path / "density", density, known)
    again = load(tmp_path / "density", known)
    expect_same(density, again)
    np.testing.assert_array_equal(again.log_prob(x, context), density.log_prob(x, context))
    assert [path.name for path in tmp_path.iterdir()] == ["density"]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected a folder .*nowhere to write density.npz"):
        save(tmp_path / "nowhere" / "density.npz", made(Flow(Scale()), X, None))


def test_what_save_did_not_write_is_said_to_be_that(tmp_path):
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n")
    for name in ("other.npz", "picture.png"):
        with pytest.raises(ValueError, match=rf"{name} cannot be read: nvpjax.save did not write it"):
            load(tmp_path / name)


def test_ensemble_and_bfloat16_arrays_read_back(tmp_path):
    flow = Flow(Scale())
    params, state = jax.vmap(flow.init, (0, None))(jax.random.split(jax.random.key(0), 3), X)
    density = flow.at(jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params), state)
    save(tmp_path / "ensemble.npz", density)
    expect_same(density, load(tmp_path / "ensemble.npz"))


@pytest.mark.parametrize(
    "bijector, said",
    [
        (Doubled(), r"density.flow.bijector is of your own \(tests.test_saving.Doubled\)"),
        (Coupling(ChannelMask("first"), Affine(), MLP((4,), lambda x: x)), "conditioner.activation is of your own"),
    ],
)
def test_what_cannot_be_described_is_named_and_nothing_is_written(bijector, said, tmp_path):
    density = made(Flow(bijector), X)
    with pytest.raises(TypeError, match=said):
        save(tmp_path / "density", density)
    assert not list(tmp_path.iterdir())
    with pytest.raises(TypeError, match="expected a Density"):
        save(tmp_path / "density", density.params)


def test_a_write_that_fails_leaves_the_older_file(tmp_path, monkeypatch):
    older, newer = made(Flow(Scale()), X), made(Flow(Doubled()), X)
    save(tmp_path / "density", older)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space"):
        save(tmp_path / "density", newer, (Doubled,))
    assert [path.name for path in tmp_path.iterdir()] == ["density"]
    expect_same(older, load(tmp_path / "density"))


def rewritten(path, change):
    """The file with another description."""
    with np.load(path) as held:
        entries = dict(held)
    document = json.loads(bytes(entries["description"]))
    document = change(document) or document
    entries["description"] = np.frombuffer(json.dumps(document).encode(), np.uint8)
    with open(path, "wb") as file:
        np.savez(file, **entries)


def put(*keys, value):
    def change(document):
        inner = document
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value

    return change


FLOW = ("density", "fields", "flow", "fields")
HOSTILE = {
    "another format": (put("format", value=2), "its format is 2"),
    "no document": (lambda document: [1], "cannot be read"),
    "a program": (put(*FLOW, "bijector", value={"function": "os.system"}), "os.system, which is of your own"),
    "a program by way of ours": (
        put(*FLOW, "bijector", value={"class": "nvpjax.saving.os.system", "fields": {}}),
        "does not have",
    ),
    "a module of ours": (put(*FLOW, "bijector", value={"function": "nvpjax.saving.json"}), "nothing of nvpjax"),
    "a class that is gone": (put(*FLOW, "bijector", "class", value="nvpjax.bijectors.linear.Gone"), "does not have"),
    "a field that is none": (put(*FLOW, "bijector", "fields", "gone", value=1), "gone"),
    "another value": (put("density", value={"tuple": []}), "it holds tuple, no Density"),
    "an array that is none": (put("density", "fields", "params", value={"array": 99}), "describes nothing"),
    "a shape that is not the array's": (put("arrays", 0, "shape", value=[3, 3, 3]), "cannot be read"),
    "a dtype that is none": (put("arrays", 0, "dtype", value="float7"), "cannot be read"),
    "a depth without end": (put("density", value=json.loads("[" * 500 + "]" * 500)), "cannot be read"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_in_a_line(name, tmp_path):
    change, said = HOSTILE[name]
    path = tmp_path / "density.npz"
    save(path, made(Flow(Scale()), X))
    rewritten(path, change)
    with pytest.raises(ValueError, match=said) as caught:
        load(path)
    assert len(str(caught.value).splitlines()) == 1


def test_cut_and_flipped_files_are_refused_or_harmless(tmp_path):
    density, path = made(Flow(Scale(), StandardNormal()), X), tmp_path / "density.npz"
    save(path, density)
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    for length in generator.integers(0, len(whole), 20):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="cannot be read"):
            load(path)
    for place in generator.integers(0, len(whole), 200):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << generator.integers(8)
        path.write_bytes(flipped)
        try:
            again = load(path)
        except ValueError as error:
            assert "cannot be read" in str(error)
        else:
            expect_same(density, again)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nowhere")
