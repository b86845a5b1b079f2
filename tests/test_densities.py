"""Densities of the plane against their closed forms, and the banana that other libraries' flows explode on."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from experiments.data.densities import DENSITIES, TORUS, TORUS_MODES, torus
from experiments.toy2d import MODELS, Arguments, fit, integral
from nvpjax import RealNVPVectors


@pytest.mark.parametrize("name", DENSITIES)
def test_draws_depend_on_the_seed_alone_and_lie_around_the_origin(name):
    x, again, other = (DENSITIES[name].sample(np.random.default_rng(seed), 4000) for seed in (0, 0, 1))
    assert x.shape == (4000, 2) and np.array_equal(x, again) and not np.array_equal(x, other)
    assert (
        np.all(np.isfinite(x))
        and np.all(np.abs(x.mean(axis=0)) < 1.2)
        and np.all((x.std(axis=0) > 0.5) & (x.std(axis=0) < 4))
    )


def test_entropy_of_the_banana():
    x1, x2 = DENSITIES["banana"].sample(np.random.default_rng(0), 200_000).T
    nats = 0.5 * (x1 - x2**2 / 4) ** 2 + 0.5 * x2**2 / 4 + np.log(2 * np.pi) + np.log(2)
    assert abs(nats.mean() - DENSITIES["banana"].entropy) < 4 * nats.std() / np.sqrt(len(nats))
    assert round(DENSITIES["banana"].entropy, 4) == 3.5310


def test_checkerboard_is_uniform_on_its_black_squares():
    x = DENSITIES["checkerboard"].sample(np.random.default_rng(0), 80_000)
    counts, _, _ = np.histogram2d(*x.T, bins=4, range=((-4, 4), (-4, 4)))
    black = np.add.outer(np.arange(4), np.arange(4)) % 2 == 0
    assert counts[~black].sum() == 0 and np.all(np.abs(counts[black] - 10_000) < 500)
    assert DENSITIES["checkerboard"].entropy == pytest.approx(np.log(black.sum() * 4))


@pytest.mark.parametrize("model", [RealNVPVectors(layers=4, hidden=(32,)), MODELS["tarflow"](6)], ids=MODELS)
def test_flow_of_the_banana_learns_stays_and_integrates_to_one(model):
    options = dataclasses.replace(Arguments("banana"), steps=600, batch_size=256)
    result = fit(model.build((2,)), DENSITIES["banana"], options)
    nats = [value for step, value in result.history if step > 300]
    assert 3.5 < nats[-1] < 3.75 and max(nats) < 5
    total, density = integral(result.density, np.array([[-10.0, 40.0], [-16.0, 16.0]]), side=600)
    assert abs(total - 1) < 0.01 and density.shape == (600, 600)


def density_of_the_torus(x):
    """Wrapped normals, by scipy."""
    turns = 2 * np.pi * np.stack(np.meshgrid(*[np.arange(-3, 4)] * 2), axis=-1).reshape(-1, 1, 2)
    density = 0.0
    for first, second, correlation in TORUS_MODES:
        covariance = 0.25 * np.array([[1, correlation], [correlation, 1]])
        density = density + 0.5 * multivariate_normal((first, second), covariance).pdf(x + turns).sum(axis=0)
    return density


def test_entropy_of_the_torus_by_the_midpoint_rule_and_by_its_draws():
    axis = -np.pi + 2 * np.pi * (np.arange(200) + 0.5) / 200
    density = density_of_the_torus(np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2))
    by_rule = -np.sum(density * np.log(density)) * (2 * np.pi / 200) ** 2
    assert TORUS.entropy == pytest.approx(by_rule, abs=1e-8)
    x = torus(np.random.default_rng(0), 100_000)
    nats = -np.log(density_of_the_torus(x))
    assert np.all(np.abs(x) <= np.pi) and abs(nats.mean() - TORUS.entropy) < 4 * nats.std() / np.sqrt(len(nats))
