"""What holds for every bijector of the zoo."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nvpjax
from nvpjax import Bijector
from nvpjax.testing import moved_from_start
from tests.zoo import ZOO


@pytest.mark.parametrize("name", ZOO)
def test_all_checks(name, check_bijector):
    entry = ZOO[name]
    check_bijector(
        entry.bijector,
        entry.example(),
        entry.example_context(),
        dtypes=entry.dtypes,
        domain=entry.domain,
        parallel=entry.parallel,
    )
    jax.clear_caches()  # the compiled programs of them all would fill gigabytes


@pytest.mark.parametrize(
    "name", ["additive", "affine, channels", "affine, checkerboard", "paper affine, odd sides", "affine, boolean mask"]
)
def test_coupling_leaves_what_passes_bit_identical(name):
    coupling, x = ZOO[name].bijector, ZOO[name].example()
    params, state = jax.jit(coupling.init)(jax.random.key(0), x)
    params = moved_from_start(jax.random.key(1), params)
    y, _, _ = coupling.forward(params, state, x)
    assert not np.array_equal(coupling.mask.split(y)[1], coupling.mask.split(x)[1])
    assert np.array_equal(coupling.mask.split(y)[0], coupling.mask.split(x)[0])


@pytest.mark.parametrize("name", [name for name in ZOO if "squeeze" in name])
def test_squeezes_are_permutations(name):
    squeeze, shape = ZOO[name].bijector, ZOO[name].example().shape
    x = jnp.arange(np.prod(shape), dtype=jnp.float32).reshape(shape)
    y, log_det, _ = squeeze.forward((), (), x)
    assert np.array_equal(np.sort(np.ravel(y)), np.ravel(x)) and not np.array_equal(np.ravel(y), np.ravel(x))
    assert np.array_equal(log_det, np.zeros(len(x))) and np.array_equal(squeeze.inverse((), (), y)[0], x)


def test_every_bijector_mask_transform_and_bound_is_in_the_zoo():
    def inside(part):
        yield type(part)
        for field in getattr(part, "__dataclass_fields__", ()):
            value = getattr(part, field)
            for item in value if isinstance(value, tuple) else (value,):
                yield from inside(item)

    def public(module):
        return {item for item in vars(module).values() if inspect.isclass(item) and not inspect.isabstract(item)}

    wanted = {item for item in public(nvpjax) if issubclass(item, Bijector)} | public(nvpjax.bijectors)
    missing = wanted - {kind for entry in ZOO.values() for kind in inside(entry.bijector)}
    assert not missing, f"put into tests/zoo.py: {missing}"
