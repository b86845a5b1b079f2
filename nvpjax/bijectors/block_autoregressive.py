"""A whole network as an autoregressive bijector: block by block increasing in an entry, and free in those before it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import jax
import jax.numpy as jnp
from jax.nn import logsumexp

from nvpjax.bijector import PyTree, StatelessBijector, log_det_dtype, sum_over_event
from nvpjax.bijectors.root import solve_increasing
from nvpjax.values import expect_at_least, expect_finite


@dataclass(frozen=True)
class BlockAutoregressive(StatelessBijector):
    """A dense network whose output i increases in entry i and sees the entries before it: a layer of B-NAF.

        h₀ = x,     hₗ = a(Wₗ hₗ₋₁ + bₗ),  without a in the last,     y = h_L,     a(u) = tanh(u) + slope·u
        Wₗ has D x D blocks: any numbers below the diagonal, 0 above, e^w on it; rows of norm e^s
        log_det = Σᵢ log of entry i's own product of blocks and slopes, summed in logarithms

    The bend has a slope everywhere, which the paper's tanh has not: so every y has an x, and the inverse is found entry
    by entry, each by a bracketed search to the precision of the dtype. A context is added in the first layer. Put
    ``Reverse`` or a permutation between layers.

    Args: ``hidden``: numbers that stand for an entry in each inner layer. ``slope``: of the bend far off.

    Shapes: x ``(batch, D)``, context None or ``(batch, C)``. Computed in at least float32.

    Errors: ValueError for sizes below 1, a slope that is not between 0 and 1, and in ``init`` for other shapes.

    Reference: De Cao, Titov, Aziz, *Block neural autoregressive flow*, 2019, eq. 8-12.

    >>> import jax, jax.numpy as jnp
    >>> layer, x = BlockAutoregressive(hidden=(4,)), jnp.array([[0.5, -1.0, 2.0]])
    >>> params, state = layer.init(jax.random.key(0), x)
    >>> y, log_det, _ = layer.forward(params, state, x)
    >>> bool(jnp.allclose(layer.inverse(params, state, y)[0], x, atol=1e-5))
    True
    """

    EVENT_AXES = 1
    hidden: tuple[int, ...] = (8, 8)
    slope: float = 0.01

    def __post_init__(self):
        object.__setattr__(self, "hidden", tuple(self.hidden))
        expect_at_least(self, 1, "hidden")
        expect_finite(self)
        if not 0 < self.slope < 1:
            raise ValueError(f"BlockAutoregressive: expected a slope between 0 and 1, got {self.slope}.")

    def init_params(self, key: jax.Array, x: jax.Array, context: PyTree = None) -> PyTree:
        if x.ndim != 2:
            raise ValueError(
                f"BlockAutoregressive: expected shape (batch, entries), got {x.shape}. Put Reshape before it."
            )
        if context is not None and jnp.ndim(context) != 2:
            raise ValueError(f"BlockAutoregressive: expected a context (batch, numbers), got {jnp.shape(context)}.")
        entries, widths = x.shape[1], (1, *self.hidden, 1)
        layers = []
        for number, (inputs, outputs) in enumerate(pairwise(widths)):
            draw = jax.random.normal(jax.random.fold_in(key, number), (entries, outputs, entries, inputs))
            rows = jnp.zeros((entries, outputs))
            layers.append({"weight": draw / inputs**0.5, "log_norm": rows, "bias": rows})
        if context is not None:
            draw = jax.random.normal(jax.random.fold_in(key, len(layers)), (*layers[0]["bias"].shape, context.shape[1]))
            layers[0]["context"] = draw / context.shape[1] ** 0.5
        return tuple(layers)

    def forward_and_log_det(self, params: PyTree, x: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        h = x.astype(log_det_dtype(x))[..., None]
        log_slope = jnp.zeros_like(h)
        for number, (weight, log_diagonal, bias) in enumerate(self._layers(params, context, h.dtype)):
            if number:
                h, log_bend = self._bend(h)
                log_slope += log_bend
            h = jnp.einsum("iojn,bjn->bio", weight, h) + bias
            log_slope = logsumexp(log_diagonal + log_slope[:, :, None, :], axis=-1)
        return h[..., 0].astype(x.dtype), sum_over_event(log_slope)

    def inverse_and_log_det(self, params: PyTree, y: jax.Array, context: PyTree) -> tuple[jax.Array, jax.Array]:
        wide = y.astype(log_det_dtype(y))
        layers = self._layers(params, context, wide.dtype)
        # What each layer is given, of the entries that are known; 0 for the others.
        known = [jnp.zeros((*y.shape, weight.shape[-1]), wide.dtype) for weight, _, _ in layers]

        def find(known, row):
            number, y, row = row
            before = [jnp.einsum("ojn,bjn->bo", weight, h) + bias for h, (weight, _, bias) in zip(known, row)]
            blocks = [jnp.exp(log_block) for _, log_block, _ in row]
            x = solve_increasing(lambda x: self._of_entry(blocks, before, x)[0], y, *self._bracket(blocks, before, y))
            _, given = self._of_entry(blocks, before, x)
            return [h.at[:, number].set(entry) for h, entry in zip(known, given)], x

        by_entry = [(weight, log_block, jnp.moveaxis(bias, 1, 0)) for weight, log_block, bias in layers]
        _, x = jax.lax.scan(find, known, (jnp.arange(y.shape[1]), wide.T, by_entry))
        _, log_det = self.forward_and_log_det(params, x.T, context)
        return x.T.astype(y.dtype), -log_det

    def _layers(self, params, context, dtype):
        """Of each layer the weights below the diagonal and on it, the logarithms of its blocks, and the shifts."""
        layers = []
        for layer in params:
            raw, log_norm, bias = (layer[name].astype(dtype) for name in ("weight", "log_norm", "bias"))
            entries = len(raw)
            own = jnp.eye(entries, dtype=bool)[:, None, :, None]
            below = jnp.tril(jnp.ones((entries, entries), bool), -1)[:, None, :, None]
            # Over a row's norm, by its largest: e^w may be too large to be squared.
            highest = jnp.max(jnp.where(own, raw, 0), axis=(2, 3), keepdims=True)
            over = jnp.where(own, jnp.exp(raw - highest), jnp.where(below, raw * jnp.exp(-highest), 0))
            log_over = log_norm - 0.5 * jnp.log(jnp.sum(jnp.square(over), axis=(2, 3)))
            log_diagonal = jnp.einsum("ioin->ion", raw) + (log_over - highest[..., 0, 0])[..., None]
            bias = bias[None]
            if "context" in layer:
                bias = bias + jnp.einsum("ioc,bc->bio", layer["context"].astype(dtype), context.astype(dtype))
            layers.append((over * jnp.exp(log_over)[..., None, None], log_diagonal, bias))
        return layers

    def _bend(self, u):
        less = jnp.exp(-2 * jnp.abs(u))  # 1 − tanh² = 4·less / (1 + less)², without a difference
        return jnp.tanh(u) + self.slope * u, jnp.log(4 * less / jnp.square(1 + less) + self.slope)

    def _of_entry(self, blocks, before, x):
        """y of one entry, and what each layer is given of it, when those before it are known."""
        given, h = [], x[:, None]
        for number, (block, shift) in enumerate(zip(blocks, before)):
            h = self._bend(h)[0] if number else h
            given.append(h)
            h = h @ block.T + shift
        return h[:, 0], given

    def _bracket(self, blocks, before, y):
        """An entry lies between 0 and where the smallest slope leads to."""
        smallest = blocks[0]
        for block in blocks[1:]:
            smallest = block @ smallest * self.slope
        there = (y - self._of_entry(blocks, before, jnp.zeros_like(y))[0]) / smallest[0, 0]
        largest = jnp.finfo(y.dtype).max / 8
        there = jnp.clip(there + jnp.sign(there), -largest, largest)  # one further, for what is rounded
        return jnp.minimum(there, 0), jnp.maximum(there, 0)
