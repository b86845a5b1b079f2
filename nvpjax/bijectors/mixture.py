"""The mixture-of-logistics transform of Flow++."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from nvpjax.bijector import PyTree, log_det_dtype
from nvpjax.bijectors.bounds import Bound, SoftClipBound, TanhBound
from nvpjax.bijectors.root import solve_increasing
from nvpjax.bijectors.transforms import by_parameter
from nvpjax.values import expect_at_least


@dataclass(frozen=True)
class LogisticMixture:
    """The distribution function of a mixture of logistics, back on the real line, then scaled and shifted.

        F(x) = Σₖ πₖ·sigmoid((x − μₖ)·exp(−sₖ))
        y = (logit F(x))·exp(a) + b
        log|∂y/∂x| = log F'(x) − log F(x) − log(1 − F(x)) + a

    From the network, for each element: ``components`` weights (by softmax), mₖ, wₖ, and b, r, with μₖ = cₖ + mₖ,
    sₖ = width_bound(wₖ) and a = bound(r). The centres cₖ are learned, one for each component whatever the element, and
    start evenly between −1 and 1: where a network starts at zero, as coupling networks do, components that were equal
    would have equal gradients, and for ever be one. Everything is a log-sum-exp, so it is finite far out, where F
    rounds to 0 or 1.

    Inverse: ``root.solve_increasing``, a bracketed search with the tolerance stated there. logit F(x) lies between the
    components' own (x − μₖ)·exp(−sₖ), so the root lies between the smallest and the largest μₖ + exp(sₖ)·logit F.

    Computed in at least float32, whatever the dtype of x.

    Reference: Ho, Chen, Srinivas, Duan, Abbeel, *Flow++*, 2019, sec. 3.2, eq. 12-14; the centres and the bound of the
    widths are ours.

    >>> import jax, jax.numpy as jnp
    >>> mixture = LogisticMixture(components=2)  # its slope is 1 far out, and less between the two centres
    >>> params, theta = mixture.init(jax.random.key(0)), jnp.zeros((2, 8))
    >>> y, log_derivative = mixture.forward(params, theta, jnp.array([[0.0], [1e4]]))
    >>> bool(jnp.allclose(y[0], 0, atol=1e-6)), [f"{slope:.3f}" for slope in jnp.exp(log_derivative[:, 0])]
    (True, ['0.940', '1.000'])
    """

    components: int = 8
    bound: Bound = TanhBound()
    width_bound: Bound = SoftClipBound(7.0)
    """Of the components' log-scales: between e⁻⁷ and e⁷. Without one a network far off makes a width of zero."""

    def __post_init__(self):
        expect_at_least(self, 1, "components")

    @property
    def parameters_per_element(self) -> int:
        return 3 * self.components + 2

    def init(self, key: jax.Array) -> PyTree:
        centres = (2 * jnp.arange(self.components, dtype=jnp.float32) + 1) / self.components - 1
        return {"centres": centres, "bound": self.bound.init(key), "width_bound": self.width_bound.init(key)}

    def forward(self, params: PyTree, theta: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        log_weights, means, log_scales, a, b = self._parts(params, theta)
        logit, log_slope = _logit_of_mixture(log_weights, means, log_scales, x.astype(means.dtype).ravel())
        y, log_derivative = logit * jnp.exp(a) + b, log_slope + a
        return y.reshape(x.shape).astype(x.dtype), log_derivative.reshape(x.shape)

    def inverse(self, params: PyTree, theta: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        log_weights, means, log_scales, a, b = self._parts(params, theta)
        logit = (y.astype(means.dtype).ravel() - b) * jnp.exp(-a)
        each = means + jnp.exp(log_scales) * logit

        def mixture(x):
            return _logit_of_mixture(log_weights, means, log_scales, x)[0]

        x = solve_increasing(mixture, logit, jnp.min(each, axis=0), jnp.max(each, axis=0))
        _, log_slope = _logit_of_mixture(log_weights, means, log_scales, x)
        return x.reshape(y.shape).astype(y.dtype), (-log_slope - a).reshape(y.shape)

    def _parts(self, params, theta):
        """Of all elements in one row: loops over a last axis of few channels are slow on CPUs."""
        numbers = by_parameter(theta.astype(log_det_dtype(theta)), self.parameters_per_element)
        numbers = numbers.reshape(len(numbers), -1)
        weights, offsets, widths = jnp.split(numbers[:-2], 3)
        return (
            jax.nn.log_softmax(weights, axis=0),
            params["centres"].astype(numbers.dtype)[:, None] + offsets,
            self.width_bound.apply(params["width_bound"], widths),
            self.bound.apply(params["bound"], numbers[-2]),
            numbers[-1],
        )


def _logit_of_mixture(log_weights, means, log_scales, x):
    """logit F(x) and the logarithm of its slope, over the leading axis of components."""
    u = (x - means) * jnp.exp(-log_scales)
    rest = jnp.log1p(jnp.exp(-jnp.abs(u)))
    log_below, log_above = jnp.minimum(u, 0) - rest, jnp.minimum(-u, 0) - rest
    log_f = jax.nn.logsumexp(log_weights + log_below, axis=0)
    log_not_f = jax.nn.logsumexp(log_weights + log_above, axis=0)
    # log F' − log F where F is the smaller, log F' − log(1 − F) elsewhere: as a mean over the components' shares of it,
    # where subtracting would cancel. Shares by softmax: it takes off the largest first.
    left = log_f < log_not_f
    of_side, of_other = jnp.where(left, log_below, log_above), jnp.where(left, log_above, log_below)
    shares = jax.nn.log_softmax(log_weights + of_side, axis=0)
    over = jax.nn.logsumexp(shares + of_other - log_scales, axis=0)
    return log_f - log_not_f, over - jnp.where(left, log_not_f, log_f)
