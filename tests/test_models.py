"""Fidelity of the ready-made models."""

import jax
import jax.numpy as jnp
import pytest

import nvpjax


@pytest.mark.parametrize(
    ("scales", "features", "blocks", "side", "expected"),
    [(2, 64, 8, 32, 19_609_545), (4, 32, 4, 32, 46_220_359), (5, 32, 2, 64, 96_363_237)],
    ids=["CIFAR-10", "ImageNet 32", "ImageNet 64"],
)
def test_published_models_have_the_published_number_of_parameters(scales, features, blocks, side, expected):
    flow = nvpjax.real_nvp(channels=3, scales=scales, features=features, blocks=blocks)
    x = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    params, _ = jax.eval_shape(flow.init, jax.random.key(0), x)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected


def test_models_are_values():
    assert nvpjax.real_nvp(3) == nvpjax.real_nvp(3) and hash(nvpjax.real_nvp(3)) == hash(nvpjax.real_nvp(3))
    assert nvpjax.real_nvp(3) != nvpjax.real_nvp(3, learned_prior=True)


def test_sizes_out_of_range_are_refused():
    with pytest.raises(ValueError, match="scales=0"):
        nvpjax.real_nvp(3, scales=0)
