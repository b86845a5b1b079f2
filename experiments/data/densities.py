"""Densities of the plane, to draw from without end."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from sklearn.datasets import make_circles, make_moons, make_swiss_roll


class DensityOfThePlane(NamedTuple):
    """``sample(rng, number)`` gives points ``(number, 2)``; ``entropy`` in nats, where it is known in closed form."""

    sample: Callable[[np.random.Generator, int], np.ndarray]
    entropy: float | None = None


def moons(rng: np.random.Generator, number: int) -> np.ndarray:
    """Two half circles that reach into each other."""
    points, _ = make_moons(number, noise=0.08, random_state=_seed(rng))
    return 2 * (points - (0.5, 0.25))


def circles(rng: np.random.Generator, number: int) -> np.ndarray:
    """Two circles, one inside the other."""
    points, _ = make_circles(number, noise=0.06, factor=0.5, random_state=_seed(rng))
    return 2.5 * points


def swiss_roll(rng: np.random.Generator, number: int) -> np.ndarray:
    """One spiral of one and a half turns."""
    points, _ = make_swiss_roll(number, noise=0.5, random_state=_seed(rng))
    return points[:, [0, 2]] / 5


def checkerboard(rng: np.random.Generator, number: int) -> np.ndarray:
    """Uniform on the black squares of a board of 4 x 4 over [−4, 4]²."""
    column, row = rng.integers(0, 4, number), rng.integers(0, 2, number)
    square = np.stack([column, 2 * row + column % 2], axis=1)
    return 2 * (square + rng.random((number, 2))) - 4


def two_spirals(rng: np.random.Generator, number: int) -> np.ndarray:
    """Two arms of one and a half turns around each other."""
    angle = np.sqrt(rng.random(number)) * 3 * np.pi
    side = rng.choice([-1, 1], number)
    arm = np.stack([-np.cos(angle) * angle, np.sin(angle) * angle], axis=1) * side[:, None]
    return arm / 3 + 0.1 * rng.standard_normal((number, 2))


def eight_gaussians(rng: np.random.Generator, number: int) -> np.ndarray:
    """Eight round normals of standard deviation 0.35, evenly on a circle of radius 3."""
    angle = rng.integers(0, 8, number) * np.pi / 4
    return 3 * np.stack([np.cos(angle), np.sin(angle)], axis=1) + 0.35 * rng.standard_normal((number, 2))


def pinwheel(rng: np.random.Generator, number: int) -> np.ndarray:
    """Five arms, bent further the further out they are (after Johnson et al., 2016)."""
    out = 1 + 0.3 * rng.standard_normal(number)
    across = 0.1 * rng.standard_normal(number)
    angle = 2 * np.pi / 5 * rng.integers(0, 5, number) + 0.25 * np.exp(out)
    cos, sin = np.cos(angle), np.sin(angle)
    return 2 * np.stack([cos * out - sin * across, sin * out + cos * across], axis=1)


def banana(rng: np.random.Generator, number: int) -> np.ndarray:
    """p(x₁, x₂) = N(x₁ | x₂²/4, 1)·N(x₂ | 0, 4): of variances 1 and 4."""
    x2 = 2 * rng.standard_normal(number)
    return np.stack([x2**2 / 4 + rng.standard_normal(number), x2], axis=1)


TORUS_MODES = ((math.pi, 0.0, 0.6), (0.5, 2.0, -0.6))
"""Of each its place, the first on the seam of the first angle, and the correlation."""
TORUS_WIDTH = 0.5


def torus(rng: np.random.Generator, number: int) -> np.ndarray:
    """Two angles in [−π, π): two normals of standard deviation 0.5, oppositely correlated, wrapped around."""
    mode = rng.integers(0, 2, number)
    u, v = rng.standard_normal((2, number))
    first, second, correlation = np.array(TORUS_MODES).T[:, mode]
    angles = np.stack([u, correlation * u + np.sqrt(1 - correlation**2) * v], axis=1) * TORUS_WIDTH
    return (angles + np.stack([first, second], axis=1) + np.pi) % (2 * np.pi) - np.pi


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))


DENSITIES = {
    "moons": DensityOfThePlane(moons),
    "circles": DensityOfThePlane(circles),
    "swiss_roll": DensityOfThePlane(swiss_roll),
    "checkerboard": DensityOfThePlane(checkerboard, math.log(32)),
    "two_spirals": DensityOfThePlane(two_spirals),
    "eight_gaussians": DensityOfThePlane(eight_gaussians),
    "pinwheel": DensityOfThePlane(pinwheel),
    "banana": DensityOfThePlane(banana, math.log(2 * math.pi * math.e) + math.log(2)),
}

TORUS = DensityOfThePlane(torus, 1.9208628710)
"""Of two angles: no density of the plane, but drawn from and compared in the same way."""
