"""Convolutions that keep height and width, in forms that the backend at hand computes fast."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen
from flax.linen.dtypes import promote_dtype

from nvpjax.nets.initializers import normal_by_fan_in


def convolve(x: jax.Array, kernel: jax.Array, bias: jax.Array | None = None) -> jax.Array:
    """Convolve an image with zeros around it, and add the bias.

    Shapes: x ``(batch, height, width, channels)``, kernel ``(rows, columns, channels, outputs)`` with odd rows and
    columns, bias ``(outputs,)``, result ``(batch, height, width, outputs)``. In bfloat16 on CPUs it has a gradient, but
    no forward-mode derivative.

    >>> convolve(jnp.ones((1, 2, 2, 1)), jnp.ones((3, 3, 1, 1)))[0, :, :, 0]
    Array([[4., 4.],
           [4., 4.]], dtype=float32)
    """
    by_hand = x.dtype == jnp.bfloat16 and jax.default_backend() == "cpu"
    y = (_with_own_gradient if by_hand else _convolve)(x, kernel)
    return y if bias is None else _add(y, bias)


def convolve_inside_a_loop(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """The same, as one product with the shifted images on CPUs, whose compiler runs convolutions inside loops slowly.

    It takes the memory of rows·columns images. A train step of a small FFJORD on 64 images of 8x8, solves being loops,
    took 29.5 s by convolutions (JAX 0.12, two cores).

    >>> convolve_inside_a_loop(jnp.ones((1, 2, 2, 1)), jnp.ones((3, 3, 1, 1)), jnp.zeros(1))[0, :, :, 0]
    Array([[4., 4.],
           [4., 4.]], dtype=float32)
    """
    if jax.default_backend() != "cpu":
        return convolve(x, kernel, bias)
    rows, columns, channels, outputs = kernel.shape
    return _shifted(x, rows, columns) @ kernel.reshape(rows * columns * channels, outputs) + bias


def _convolve(x, kernel):
    if kernel.shape[:2] == (1, 1):  # a product: its gradient for the kernel is one too, without the copies of another
        return x @ kernel[0, 0]
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


# XLA's CPU backend gives oneDNN no convolution in bfloat16 whose kernel is a reverse, as jax's own gradient for x has
# it, and computes it in float32: 7 to 10 times slower where the processor has products of bfloat16 (JAX 0.12). Its
# gradient for the kernel copies x and g into another layout: two to four times slower than a product with the shifted
# images of whichever has few channels.


@jax.custom_vjp
def _with_own_gradient(x, kernel):
    return _convolve(x, kernel)


def _forward(x, kernel):
    return _convolve(x, kernel), (x, kernel)


def _backward(held, g):
    x, kernel = held
    rows, columns, channels, outputs = kernel.shape
    turned = jnp.stack([kernel[row] for row in reversed(range(rows))])
    turned = jnp.stack([turned[:, column] for column in reversed(range(columns))], axis=1)
    of_x = _convolve(g, turned.swapaxes(2, 3))
    if rows * columns * min(channels, outputs) > 2 * max(channels, outputs):
        _, gradient = jax.vjp(lambda kernel: _convolve(x, kernel), kernel)
        (of_kernel,) = gradient(g)
    elif channels <= outputs:
        of_kernel = _products(_shifted(x, rows, columns), g).reshape(kernel.shape)
    else:  # what x shifted by (row, column) meets is what g shifted the other way meets
        of_kernel = _products(x, _shifted(g, rows, columns)).reshape(channels, rows, columns, outputs)
        of_kernel = of_kernel[:, ::-1, ::-1].transpose(1, 2, 0, 3)
    return of_x, of_kernel


_with_own_gradient.defvjp(_forward, _backward)


@jax.custom_jvp
def _add(y, bias):
    return y + bias


@_add.defjvp
def _(primals, tangents):
    # XLA's CPU backend would compute the backward pass's g anew within the sum that is the bias's gradient, in one
    # thread: half of the step of a Glow (JAX 0.12). The barrier has it computed once, and what is summed be float32.
    dy, dbias = tangents
    wide = jnp.broadcast_to(dbias.astype(jnp.promote_types(dbias.dtype, jnp.float32)), dy.shape)
    return _add(*primals), jax.lax.optimization_barrier(dy + wide.astype(dy.dtype))


def _shifted(x: jax.Array, rows: int, columns: int) -> jax.Array:
    """x as each entry of a kernel meets it, beside one another in the last axis."""
    _, height, width, _ = x.shape
    padded = jnp.pad(x, ((0, 0), (rows // 2,) * 2, (columns // 2,) * 2, (0, 0)))
    shifts = [(row, column) for row in range(rows) for column in range(columns)]
    return jnp.concatenate([padded[:, r : r + height, c : c + width] for r, c in shifts], axis=-1)


def _products(x: jax.Array, g: jax.Array) -> jax.Array:
    """Σ x gᵀ over examples and positions."""
    return x.reshape(-1, x.shape[-1]).T @ g.reshape(-1, g.shape[-1])


class Conv(linen.Module):
    """A convolution of ``size`` x ``size`` with a bias, under the names that ``linen.Conv`` gives."""

    features: int
    size: int
    kernel_init: Callable[..., jax.Array] = normal_by_fan_in
    function: Callable[[jax.Array, jax.Array, jax.Array], jax.Array] = convolve

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", self.kernel_init, (self.size, self.size, x.shape[-1], self.features))
        bias = self.param("bias", linen.initializers.zeros, (self.features,))
        x, kernel, bias = promote_dtype(x, kernel, bias)
        return self.function(x, kernel, bias)
