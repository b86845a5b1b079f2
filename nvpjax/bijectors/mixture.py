"""The mixture-of-logistics transform of Flow++."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from nvpjax.bijector import PyTree, log_det_dtype
from nvpjax.bijectors.bounds import Bound, TanhBound
from nvpjax.bijectors.root import solve_increasing
from nvpjax.bijectors.transforms import by_parameter
from nvpjax.values import expect_at_least


@dataclass(frozen=True)
class LogisticMixture:
    """The distribution function of a mixture of logistics, back on the real line, then scaled and shifted.

        F(x) = Σₖ πₖ·sigmoid((x − μₖ)·exp(−sₖ))
        y = (logit F(x))·exp(a) + b
        log|∂y/∂x| = log F'(x) − log F(x) − log(1 − F(x)) + a

    From the network, for each element: ``components`` weights (by softmax), means μ, log-scales s, and b, r with
    a = bound(r). Everything is a log-sum-exp, so it is finite far out, where F rounds to 0 or 1.

    Inverse: ``root.solve_increasing``, a bracketed search with the tolerance stated there. logit F(x) lies between the
    components' own (x − μₖ)·exp(−sₖ), so the root lies between the smallest and the largest μₖ + exp(sₖ)·logit F.

    Computed in at least float32, whatever the dtype of x.

    Reference: Ho, Chen, Srinivas, Duan, Abbeel, *Flow++*, 2019, sec. 3.2, eq. 12-14.

    >>> import jax, jax.numpy as jnp
    >>> mixture = LogisticMixture(components=2)
    >>> y, log_derivative = mixture.forward(mixture.init(jax.random.key(0)), jnp.zeros((1, 8)), jnp.array([[1e4]]))
    >>> bool(jnp.allclose(y, 1e4)), bool(jnp.allclose(log_derivative, 0, atol=1e-6))
    (True, True)
    """

    components: int = 8
    bound: Bound = TanhBound()

    def __post_init__(self):
        expect_at_least(self, 1, "components")

    @property
    def parameters_per_element(self) -> int:
        return 3 * self.components + 2

    def init(self, key: jax.Array) -> PyTree:
        return self.bound.init(key)

    def forward(self, params: PyTree, theta: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        log_weights, means, log_scales, a, b = self._parts(params, theta)
        logit, log_slope = _logit_of_mixture(log_weights, means, log_scales, x.astype(means.dtype))
        return (logit * jnp.exp(a) + b).astype(x.dtype), log_slope + a

    def inverse(self, params: PyTree, theta: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        log_weights, means, log_scales, a, b = self._parts(params, theta)
        logit = (y.astype(means.dtype) - b) * jnp.exp(-a)
        each = means + jnp.exp(log_scales) * logit

        def mixture(x):
            return _logit_of_mixture(log_weights, means, log_scales, x)[0]

        x = solve_increasing(mixture, logit, jnp.min(each, axis=0), jnp.max(each, axis=0))
        _, log_slope = _logit_of_mixture(log_weights, means, log_scales, x)
        return x.astype(y.dtype), -log_slope - a

    def _parts(self, params, theta):
        numbers = by_parameter(theta.astype(log_det_dtype(theta)), self.parameters_per_element)
        weights, means, log_scales = jnp.split(numbers[:-2], 3)
        return (
            jax.nn.log_softmax(weights, axis=0),
            means,
            log_scales,
            self.bound.apply(params, numbers[-2]),
            numbers[-1],
        )


def _logit_of_mixture(log_weights, means, log_scales, x):
    """logit F(x) and the logarithm of its slope, over the leading axis of components."""
    u = (x - means) * jnp.exp(-log_scales)
    log_below, log_above = jax.nn.log_sigmoid(u), jax.nn.log_sigmoid(-u)
    log_f = jax.nn.logsumexp(log_weights + log_below, axis=0)
    log_not_f = jax.nn.logsumexp(log_weights + log_above, axis=0)
    # log F' − log F, or log F' − log(1 − F), as a mean over the components' shares, where subtracting would cancel; the
    # one is exact on the left, the other on the right. Shares by softmax: it takes off the largest first.
    over_f = jax.nn.logsumexp(jax.nn.log_softmax(log_weights + log_below, axis=0) + log_above - log_scales, axis=0)
    over_not_f = jax.nn.logsumexp(jax.nn.log_softmax(log_weights + log_above, axis=0) + log_below - log_scales, axis=0)
    return log_f - log_not_f, jnp.where(log_f < log_not_f, over_f - log_not_f, over_not_f - log_f)
