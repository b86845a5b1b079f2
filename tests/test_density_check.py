"""nvpjax.testing.check_density: right densities pass, and each kind of wrong one is found."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import pytest

from nvpjax import (
    MAF,
    Additive,
    Affine,
    BooleanMask,
    ByColumns,
    Chain,
    CircularSpline,
    Coupling,
    Exp,
    Flow,
    InTurn,
    Log,
    OnColumns,
    StandardNormal,
    StatelessBijector,
    UniformCircle,
    Wrap,
)
from nvpjax.nets import MLP, OfAngles
from nvpjax.testing import check_density, moved_from_start

KEY = jax.random.key(0)


def moved(flow, entries, context=None):
    x = jnp.ones((5, entries))
    params, state = flow.init(KEY, x, None if context is None else jnp.repeat(context, 5, axis=0))
    return flow.at(moved_from_start(KEY, params, 0.2), state)


def of_an_angle(network):
    """An angle beside a positive number, which the network tells by the angle."""
    turned = Coupling(BooleanMask((False, True)), InTurn((CircularSpline(4), Additive())), MLP((8,)))
    scaled = Coupling(BooleanMask((True, False)), Affine(), network)
    base = ByColumns((((0,), UniformCircle()), ((1,), StandardNormal())))
    return Flow(Chain((OnColumns(Wrap(), (0,)), OnColumns(Log(), (1,)), turned, scaled)), base)


@dataclass(frozen=True)
class Doubled(StatelessBijector):
    """y = 2x, whose log-dets are those of another number."""

    log_slope: float

    def forward_and_log_det(self, params, x, context):
        return 2 * x, jnp.full(len(x), x[0].size * self.log_slope)

    def inverse_and_log_det(self, params, y, context):
        return y / 2, jnp.full(len(y), -y[0].size * self.log_slope)


class WideDraws(StandardNormal):
    def sample(self, key, params, like, context=None):
        return 2 * super().sample(key, params, like, context)


def test_right_densities_pass():
    check_density(moved(MAF(layers=2, hidden=(8,)).build((2,)), 2))
    check_density(moved(of_an_angle(OfAngles(MLP((8,)))), 2))
    context = jnp.ones((1, 3))
    check_density(moved(MAF(layers=2, hidden=(8,)).build((2,)), 2, context), context)


def test_a_network_that_sees_an_angle_as_a_number_is_found():
    with pytest.raises(AssertionError, match="what x was drawn with"):
        check_density(moved(of_an_angle(MLP((8,))), 2))


def test_a_log_det_of_both_directions_is_found_by_the_integral():
    check_density(moved(Flow(Doubled(float(jnp.log(2.0)))), 2))
    with pytest.raises(AssertionError, match="integral of 0"):
        check_density(moved(Flow(Doubled(float(jnp.log(2.1)))), 2))


def test_draws_of_another_density_are_found():
    with pytest.raises(AssertionError, match="integral"):
        check_density(moved(Flow(Doubled(float(jnp.log(2.0))), WideDraws()), 1))


def test_latents_that_no_data_have_are_found():
    with pytest.raises(AssertionError, match="NaN"):  # a normal's negative half has no logarithm
        check_density(moved(Flow(Exp()), 1))


def test_of_many_columns_the_integral_says_nothing():
    """Its standard error is above what it estimates."""
    check_density(moved(Flow(Doubled(float(jnp.log(2.1)))), 30), draws=2_000)
