"""Convolutions against sums over shifted images, in both forms that they are computed in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nvpjax.convolves import convolves
from nvpjax.nets.convolve import convolve, convolve_inside_a_loop

SHAPES = {
    "of many to many": ((2, 5, 4, 3), (3, 3, 3, 2)),
    "of one row and column": ((3, 2, 3, 2), (1, 1, 2, 4)),
    "higher than wide": ((1, 4, 6, 1), (5, 3, 1, 3)),
    "of few to many": ((2, 3, 4, 1), (3, 5, 1, 9)),
    "of many to few": ((2, 3, 4, 9), (5, 3, 9, 1)),
}


def by_shifts(x, kernel, bias):
    rows, columns = kernel.shape[:2]
    _, height, width, _ = x.shape
    padded = jnp.pad(x, ((0, 0), (rows // 2, rows // 2), (columns // 2, columns // 2), (0, 0)))
    return bias + sum(
        padded[:, row : row + height, column : column + width] @ kernel[row, column]
        for row in range(rows)
        for column in range(columns)
    )


@pytest.mark.parametrize("x_shape, kernel_shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(
    "function, dtype",
    [(convolve, "float32"), (convolve, "bfloat16"), (convolve_inside_a_loop, "float32")],  # solves are not in bfloat16
)
def test_it_and_its_gradients_are_those_of_a_sum_over_shifts(x_shape, kernel_shape, dtype, function):
    of_x, of_kernel, of_bias, of_g = jax.random.split(jax.random.key(0), 4)
    # Eighths: what is rounded to bfloat16 is the result alone.
    outputs = kernel_shape[3]
    shapes = [(of_x, x_shape), (of_kernel, kernel_shape), (of_bias, (outputs,)), (of_g, (*x_shape[:3], outputs))]
    x, kernel, bias, g = (jnp.round(8 * jax.random.normal(key, shape)) / 8 for key, shape in shapes)
    expected, backward = jax.vjp(by_shifts, x, kernel, bias)
    result, own_backward = jax.vjp(function, *(a.astype(dtype) for a in (x, kernel, bias)))
    near = {"rtol": 1e-5, "atol": 1e-5} if dtype == "float32" else {"rtol": 2**-8, "atol": 2**-6}
    found = (result, *own_backward(g.astype(dtype)))
    for own, other in zip(found, (expected, *backward(g)), strict=True):
        assert own.dtype == dtype
        np.testing.assert_allclose(own.astype(np.float32), other, **near)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_is_seen_to_convolve(dtype):
    x, kernel = jnp.ones((1, 4, 4, 2), dtype), jnp.ones((3, 3, 2, 2), dtype)
    both = [convolve, jax.grad(lambda x, kernel: convolve(x, kernel).sum())]
    assert all(convolves(jax.make_jaxpr(program)(x, kernel).jaxpr) for program in both)
    inside = jax.make_jaxpr(jax.grad(lambda x: convolve_inside_a_loop(x, kernel, jnp.zeros(2, dtype)).sum()))(x)
    assert not convolves(inside.jaxpr)
