"""What holds for every bijector of the zoo."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nvpjax
from nvpjax import Bijector
from nvpjax.testing import check_bijector, moved_from_start
from tests.zoo import UNIT, ZOO

BATCH = 3


def example(event, domain, batch=BATCH):
    x = np.random.default_rng(0).normal(size=(batch, *event))
    return jnp.asarray(1 / (1 + np.exp(-x)) if domain == UNIT else x, jnp.float32)


@pytest.mark.parametrize("name", ZOO)
def test_round_trip_and_log_det_against_the_jacobian(name):
    bijector, event, domain = ZOO[name]
    check_bijector(bijector, example(event, domain), dtypes=("float32", "float64"))


@pytest.mark.parametrize("name", ZOO)
def test_is_a_value(name):
    bijector, _, _ = ZOO[name]
    assert hash(bijector) == hash(bijector) and bijector == bijector and type(bijector).__name__ in repr(bijector)
    for field in bijector.__dataclass_fields__:
        with pytest.raises(AttributeError):
            setattr(bijector, field, None)


@pytest.mark.parametrize(
    "name", ["additive, vector", "affine, channels", "affine, checkerboard", "paper affine, odd sides"]
)
def test_coupling_leaves_what_passes_bit_identical(name):
    coupling, event, domain = ZOO[name]
    x = example(event, domain)
    params, state = jax.jit(coupling.init)(jax.random.key(0), x)
    params = moved_from_start(jax.random.key(1), params)
    y, _, _ = coupling.forward(params, state, x)
    assert not np.array_equal(coupling.mask.split(y)[1], coupling.mask.split(x)[1])
    assert np.array_equal(coupling.mask.split(y)[0], coupling.mask.split(x)[0])


@pytest.mark.parametrize("name", ["squeeze", "ordered squeeze"])
def test_squeezes_are_permutations(name):
    squeeze, event, _ = ZOO[name]
    x = jnp.arange(np.prod((BATCH, *event)), dtype=jnp.float32).reshape(BATCH, *event)
    y, log_det, _ = squeeze.forward((), (), x)
    assert np.array_equal(np.sort(np.ravel(y)), np.ravel(x)) and not np.array_equal(np.ravel(y), np.ravel(x))
    assert np.array_equal(log_det, np.zeros(BATCH)) and np.array_equal(squeeze.inverse((), (), y)[0], x)


def test_every_bijector_is_in_the_zoo():
    def inside(bijector):
        yield type(bijector)
        for field in bijector.__dataclass_fields__:
            value = getattr(bijector, field)
            for item in value if isinstance(value, tuple) else (value,):
                if isinstance(item, Bijector):
                    yield from inside(item)

    public = {item for item in vars(nvpjax).values() if inspect.isclass(item) and issubclass(item, Bijector)}
    concrete = {item for item in public if not inspect.isabstract(item)}
    assert concrete == {kind for bijector, _, _ in ZOO.values() for kind in inside(bijector)}
