"""The coupling network of Real NVP, as the authors' program builds it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen
from flax.linen.dtypes import promote_dtype

from nvpjax.nets.batch_norm import BatchNorm
from nvpjax.nets.conditioner import Network
from nvpjax.nets.convolve import convolve
from nvpjax.nets.initializers import uniform_by_channels
from nvpjax.values import expect_at_least


@dataclass(frozen=True)
class ResidualNet(Network):
    """A weight-normalised residual network with skip paths and batch normalisation inside.

        h = batch-norm(x) (× 2 under a checkerboard);  h = conv3x3(relu([h, −h, mask]))
        skip = conv1x1(h)
        each block:  h = h + conv3x3(relu(batch-norm(conv3x3(relu(batch-norm(h))))));  skip = skip + conv1x1(h)
        output = conv1x1(relu(batch-norm(skip)))

    Batch-norms have a learned shift and no learned scale. Each convolution's kernel has norm 1 per output channel;
    where no batch-norm follows directly it has a bias, and the last of a block, the skip and the output convolutions
    have a learned magnitude too.

    With ``train=False`` batch-norms use running averages, in both directions. (When the authors' program draws samples,
    it normalises with the moments of what it generates, and so does not invert exactly.)

    Args: ``blocks``: 0 leaves ``output(skip(input))``. (In the authors' program no blocks means another network, a
    stack of plain convolutions.) ``mask_channel``: the last input channel is a mask, as ``Checkerboard`` shows it.
    ``axis_name``: the pmap axis over which batch-norms measure. ``scan``: whether the blocks are one loop, so that the
    program that is compiled does not grow with them; as in ``Repeat`` by default on TPUs only. Parameters are the
    same: those of the blocks have a leading axis of ``blocks``.

    Shapes: x ``(batch, height, width, channels)``, context None or ``(batch, features)``, output
    ``(batch, height, width, outputs)``.

    Reference: Real NVP, sec. 3.2, 3.7, 4.1 and app. E; details after the authors' program.

    >>> import jax, jax.numpy as jnp
    >>> network, x = ResidualNet(features=4, blocks=1), jnp.zeros((2, 3, 5, 1))
    >>> params, state = network.init(jax.random.key(0), x, outputs=6)
    >>> output, state = network.apply(params, state, x, outputs=6, train=True)
    >>> output.shape
    (2, 3, 5, 6)
    """

    X_AXES = 4
    features: int
    blocks: int
    mask_channel: bool = False
    axis_name: str | None = None
    scan: bool | None = None

    def __post_init__(self):
        expect_at_least(self, 1, "features")
        expect_at_least(self, 0, "blocks")

    def __call__(self, x: jax.Array, context: Any = None, *, outputs: int, train: bool = False) -> jax.Array:
        norm = partial(BatchNorm, train, self.axis_name)
        if self.mask_channel:
            x, mask = x[..., :-1], x[..., -1:]
            h = 2 * norm(name="input_norm")(x)
            h = jnp.concatenate([h, -h, mask], axis=-1)
        else:
            h = norm(name="input_norm")(x)
            h = jnp.concatenate([h, -h], axis=-1)

        h = _Convolution(self.features, kernel_size=3, magnitude=False, name="input")(linen.relu(h))
        if context is not None:
            h = h + linen.Dense(self.features, name="context")(context)[:, None, None, :]
        skip = _Convolution(self.features, kernel_size=1, name="input_skip")(h)
        if self.blocks:
            # Convolutions are slow in a loop but on TPUs: nvpjax/convolves.py.
            scan = jax.default_backend() == "tpu" if self.scan is None else self.scan
            stacked = linen.scan(
                _Block,
                variable_axes={"params": 0, "batch_stats": 0},
                split_rngs={"params": True},
                length=self.blocks,
                unroll=1 if scan else 0,  # all of them: with unroll=1, a scan of one block would stay a loop
            )
            (h, skip), _ = stacked(self.features, train, self.axis_name, name="blocks")((h, skip), None)
        return _Convolution(outputs, kernel_size=1, name="output")(linen.relu(norm(name="output_norm")(skip)))


class _Block(linen.Module):
    """One residual block, in the form that a scan wants: ``(h, skip)`` goes through, nothing else comes out."""

    features: int
    train: bool
    axis_name: str | None

    @linen.compact
    def __call__(self, carry: tuple[jax.Array, jax.Array], _):
        h, skip = carry
        norm = partial(BatchNorm, self.train, self.axis_name)
        first = _Convolution(self.features, kernel_size=3, magnitude=False, bias=False, name="0")
        r = first(linen.relu(norm(name="norm_0")(h)))
        r = linen.relu(norm(name="norm_1")(r))
        h = h + _Convolution(self.features, kernel_size=3, name="1")(r)
        skip = skip + _Convolution(self.features, kernel_size=1, name="skip")(h)
        return (h, skip), None


class _Convolution(linen.Module):
    """A convolution with weight normalisation:  kernel / ‖kernel‖ · magnitude,  the norm taken per output channel.

    The kernel is stored as it is drawn, with norms near √(k²·2/3): 2.45 for 3x3 and 0.82 for 1x1, as the authors'
    program stores it. The function does not depend on the stored norm, but how far a step of Adam turns it does.
    (``linen.WeightNorm`` would store it normalised.)
    """

    features: int
    kernel_size: int
    magnitude: bool = True
    bias: bool = True

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", uniform_by_channels, shape)
        kernel = kernel * jax.lax.rsqrt(jnp.sum(jnp.square(kernel), axis=(0, 1, 2)) + 1e-12)
        if self.magnitude:
            start = linen.initializers.constant(math.sqrt(self.kernel_size**2 / 6))
            kernel = kernel * self.param("magnitude", start, (self.features,))
        bias = self.param("bias", linen.initializers.zeros, (self.features,)) if self.bias else None
        x, kernel, bias = promote_dtype(x, kernel, bias)
        return convolve(x, kernel, bias)
