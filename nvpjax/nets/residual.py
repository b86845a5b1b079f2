"""The coupling network of Real NVP, as the authors' program builds it."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen


class ResidualNet(linen.Module):
    """A weight-normalised residual network with skip paths and batch normalisation inside.

        h = batch-norm(x) (× 2 under a checkerboard);  h = conv3x3(relu([h, −h, mask]))
        skip = conv1x1(h)
        each block:  h = h + conv3x3(relu(batch-norm(conv3x3(relu(batch-norm(h))))));  skip = skip + conv1x1(h)
        output = conv1x1(relu(batch-norm(skip)))

    Batch-norms have a learned shift and no learned scale. Each convolution's kernel has norm 1 per output channel;
    where no batch-norm follows directly it has a bias, and the last of a block, the skip and the output convolutions
    have a learned magnitude too.

    Args: ``mask_channel``: the last input channel is a mask, as ``Checkerboard`` shows it. ``axis_name``: the pmap
    axis over which batch-norms measure. ``scan``: whether the blocks are one loop, so that the program that is compiled
    does not grow with them; as in ``Repeat`` by default not on the CPU backend. Parameters are the same: those of the
    blocks have a leading axis of ``blocks``.

    Shapes: x ``(batch, height, width, channels)``, context None or ``(batch, features)``, output
    ``(batch, height, width, outputs)``.

    Reference: Real NVP, sec. 3.2, 3.7, 4.1 and app. E; details after the authors' program.
    """

    features: int
    blocks: int
    outputs: int
    mask_channel: bool = False
    axis_name: str | None = None
    scan: bool | None = None

    @linen.compact
    def __call__(self, x: jax.Array, context: Any = None, *, train: bool = False) -> jax.Array:
        norm = partial(_batch_norm, train=train, axis_name=self.axis_name)
        if self.mask_channel:
            x, mask = x[..., :-1], x[..., -1:]
            h = 2 * norm("input_norm")(x)
            h = jnp.concatenate([h, -h, mask], axis=-1)
        else:
            h = norm("input_norm")(x)
            h = jnp.concatenate([h, -h], axis=-1)

        h = _convolution(self.features, kernel=3, magnitude=False, name="input")(linen.relu(h))
        if context is not None:
            h = h + linen.Dense(self.features, name="context")(context)[:, None, None, :]
        skip = _convolution(self.features, kernel=1, name="input_skip")(h)
        if self.blocks:
            scan = jax.default_backend() != "cpu" if self.scan is None else self.scan
            stacked = linen.scan(
                _Block,
                variable_axes={"params": 0, "batch_stats": 0},
                split_rngs={"params": True},
                length=self.blocks,
                unroll=1 if scan else 0,  # all of them: with unroll=1, a scan of one block would stay a loop
            )
            (h, skip), _ = stacked(self.features, train, self.axis_name, name="blocks")((h, skip), None)
        return _convolution(self.outputs, kernel=1, name="output")(linen.relu(norm("output_norm")(skip)))


class _Block(linen.Module):
    """One residual block, in the form that a scan wants: ``(h, skip)`` goes through, nothing else comes out."""

    features: int
    train: bool
    axis_name: str | None

    @linen.compact
    def __call__(self, carry: tuple[jax.Array, jax.Array], _):
        h, skip = carry
        norm = partial(_batch_norm, train=self.train, axis_name=self.axis_name)
        r = _convolution(self.features, kernel=3, magnitude=False, bias=False, name="0")(linen.relu(norm("norm_0")(h)))
        r = linen.relu(norm("norm_1")(r))
        h = h + _convolution(self.features, kernel=3, name="1")(r)
        skip = skip + _convolution(self.features, kernel=1, name="skip")(h)
        return (h, skip), None


def _batch_norm(name: str, *, train: bool, axis_name: str | None) -> linen.BatchNorm:
    return linen.BatchNorm(
        use_running_average=not train,
        use_scale=False,
        momentum=0.9,
        epsilon=1e-4,
        axis_name=axis_name,
        use_fast_variance=False,  # E[x²] − E[x]² loses the digits that the inverse needs
        name=name,
    )


def _convolution(features: int, kernel: int, *, name: str, magnitude: bool = True, bias: bool = True):
    convolution = linen.Conv(features, (kernel, kernel), use_bias=bias, kernel_init=_uniform, name=name)
    return linen.WeightNorm(
        convolution,
        use_scale=magnitude,
        scale_init=linen.initializers.constant(math.sqrt(kernel**2 / 6)),
        name=f"{name}_weight_norm",
    )


def _uniform(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
    """Uniform in ±√(2 / input channels)."""
    bound = math.sqrt(2 / shape[-2])
    # Drawn flat: XLA's CPU backend takes seconds to compile a four-dimensional draw (JAX 0.10 and 0.12).
    return jax.random.uniform(key, (math.prod(shape),), dtype, -bound, bound).reshape(shape)
