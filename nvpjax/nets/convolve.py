"""Convolutions that keep height and width, in a form that the backend at hand computes fast."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen
from flax.linen.dtypes import promote_dtype

from nvpjax.nets.initializers import normal_by_fan_in


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolve an image with zeros around it.

    Shapes: x ``(batch, height, width, channels)``, kernel ``(rows, columns, channels, outputs)`` with odd rows and
    columns, result ``(batch, height, width, outputs)``. In bfloat16 on CPUs it has a gradient, but no forward-mode
    derivative.

    >>> convolve(jnp.ones((1, 2, 2, 1)), jnp.ones((3, 3, 1, 1)))[0, :, :, 0]
    Array([[4., 4.],
           [4., 4.]], dtype=float32)
    """
    by_hand = x.dtype == jnp.bfloat16 and jax.default_backend() == "cpu"
    return _with_own_gradient(x, kernel) if by_hand else _convolve(x, kernel)


def _convolve(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


# XLA's CPU backend gives oneDNN no convolution in bfloat16 whose kernel is a reverse, as jax's own gradient for x has
# it, and computes it in float32: 7 to 10 times slower where the processor has products of bfloat16 (JAX 0.12).


@jax.custom_vjp
def _with_own_gradient(x, kernel):
    return _convolve(x, kernel)


def _forward(x, kernel):
    return _convolve(x, kernel), (x, kernel)


def _backward(held, g):
    x, kernel = held
    rows = jnp.stack(list(kernel)[::-1])
    turned = jnp.stack([rows[:, column] for column in reversed(range(kernel.shape[1]))], axis=1)
    _, of_kernel = jax.vjp(lambda kernel: _convolve(x, kernel), kernel)
    return _convolve(g, turned.swapaxes(2, 3)), *of_kernel(g)


_with_own_gradient.defvjp(_forward, _backward)


class Conv(linen.Module):
    """A convolution of ``size`` x ``size`` with a bias, under the names that ``linen.Conv`` gives."""

    features: int
    size: int
    kernel_init: jax.nn.initializers.Initializer = normal_by_fan_in

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", self.kernel_init, (self.size, self.size, x.shape[-1], self.features))
        bias = self.param("bias", linen.initializers.zeros, (self.features,))
        x, kernel, bias = promote_dtype(x, kernel, bias)
        return convolve(x, kernel) + bias
