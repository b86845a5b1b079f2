"""Maps that a peer has too, on identical parameters, in float64: the largest difference of y and of log-dets.

    pip install ".[peers,peers-torch,continuous]"
    python -m experiments.kit.same_maps [--points 2000]

Points are standard normal, or uniform on the circle; parameters are random and far from the identity. Those of flowjax,
normflows and TFP are taken as their libraries made them, and ours are found from them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from experiments import command_line
from nvpjax import BernsteinPolynomial, BlockAutoregressive, CircularSpline, InvertibleResidual, SumOfSquares
from nvpjax.continuous import Continuous
from nvpjax.nets import MLP

Pairs = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""y and log_det of ours, y and log_det of theirs."""


@dataclass(frozen=True)
class Arguments:
    points: int = 2_000
    """At which both are asked."""


def circular_spline(points: int) -> Pairs:
    import torch
    from normflows.utils.splines import unconstrained_rational_quadratic_spline as theirs

    generator, bins = np.random.default_rng(0), 8
    angles = generator.uniform(-math.pi, math.pi, (points, 1))
    widths, heights, slopes = generator.normal(size=(3, points, bins))
    theta = np.concatenate([widths, heights, slopes], axis=1)
    y, log_det = CircularSpline(bins).forward((), jnp.asarray(theta), jnp.asarray(angles))
    shift = math.log(math.expm1(1 - 1e-3))  # our slope is 1 where the network says 0
    numbers = [torch.tensor(array)[:, None] for array in (widths, heights, slopes + shift)]
    other, other_log_det = theirs(torch.tensor(angles), *numbers, tails="circular", tail_bound=math.pi)
    return y, log_det, other.numpy(), other_log_det.numpy()


def circular_spline_of_zuko(points: int) -> Pairs:
    """Whose slope at the seam is 1."""
    import torch
    from zuko.transforms import MonotonicRQSTransform

    generator, bins, least = np.random.default_rng(0), 8, 1e-3
    angles = generator.uniform(-math.pi, math.pi, (points, 1))
    drawn = [generator.normal(size=(points, 1, size)) for size in (bins, bins, bins - 1)]
    theirs = MonotonicRQSTransform(*map(torch.tensor, drawn), bound=math.pi)
    x = torch.tensor(angles)
    other = theirs(x)

    def numbers(edges):  # of shares that are at least so much
        return np.log(np.diff(edges.numpy()[:, 0]) / (2 * math.pi) - least)

    slopes = theirs.derivatives.numpy()[:, 0, :-1]
    of_slopes = np.log(np.expm1(slopes - least)) - math.log(math.expm1(1 - least))
    theta = np.concatenate([numbers(theirs.horizontal), numbers(theirs.vertical), of_slopes], axis=1)
    y, log_det = CircularSpline(bins, minimum=least).forward((), jnp.asarray(theta), jnp.asarray(angles))
    return y, log_det, other.numpy(), theirs.log_abs_det_jacobian(x, other).numpy()


def bernstein(points: int) -> Pairs:
    """Where it is bent: beyond the ends both go on in a line of their own."""
    import torch
    from zuko.transforms import BernsteinTransform

    generator, limit = np.random.default_rng(0), 5.0
    x = generator.uniform(-0.99 * limit, 0.99 * limit, (points, 1))
    theirs = BernsteinTransform(torch.tensor(generator.normal(size=(points, 1, 14))), bound=limit)
    other = theirs(torch.tensor(x))
    coefficients = theirs.theta.numpy()[:, 0]
    rises, least = np.diff(coefficients), 1e-9
    shares = rises / rises.sum(axis=1, keepdims=True)
    ours = BernsteinPolynomial(rises.shape[1], limit, least)
    y, log_det = ours.forward((), jnp.asarray(np.log(shares - least)), jnp.asarray(x))
    scale = rises.sum(axis=1, keepdims=True) / (2 * limit)  # ours fills [−limit, limit]
    y = (np.asarray(y) + limit) * scale + coefficients[:, :1]
    log_det = np.asarray(log_det) + np.log(scale)
    return y, log_det, other.numpy(), theirs.log_abs_det_jacobian(torch.tensor(x), other).numpy()


def sum_of_squares(points: int) -> Pairs:
    import torch
    from zuko.transforms import SOSPolynomialTransform

    generator, polynomials, degree, bound, least = np.random.default_rng(0), 2, 3, 5.0, 1e-3
    x = generator.normal(size=(points, 1))
    a = generator.normal(size=(points, 1, polynomials, degree + 1))
    theirs = SOSPolynomialTransform(torch.tensor(a), slope=least, bound=bound)
    other = theirs(torch.tensor(x))
    ours = SumOfSquares(polynomials, degree, least)
    inside = (a + np.eye(degree + 1)[0])[:, 0] / math.sqrt(polynomials) / bound ** np.arange(degree + 1)
    theta = np.concatenate([inside.reshape(points, -1), np.zeros((points, 1))], axis=1)
    params = {"coefficients": jnp.zeros((polynomials, degree + 1))}
    y, log_det = ours.forward(params, jnp.asarray(theta), jnp.asarray(x))
    return y, log_det, other.numpy(), theirs.log_abs_det_jacobian(torch.tensor(x), other).numpy()


def block_network(points: int) -> Pairs:
    import paramax
    from flowjax.bijections import BlockAutoregressiveNetwork

    entries, width = 3, 8
    theirs = BlockAutoregressiveNetwork(jax.random.key(0), dim=entries, depth=2, block_dim=width)
    theirs = jax.tree.map(lambda leaf: 2 * leaf if isinstance(leaf, jax.Array) else leaf, theirs)
    x = jax.random.normal(jax.random.key(1), (points, entries))
    unwrapped = paramax.unwrap(theirs)
    other, other_log_det = jax.vmap(unwrapped.transform_and_log_det)(x)
    ours, params = BlockAutoregressive((width, width), slope=0.01), []
    for linear, _ in unwrapped.layers:
        rows, columns = (size // entries for size in linear.weight.shape)
        weight = np.asarray(linear.weight).reshape(entries, rows, entries, columns)
        own = np.eye(entries, dtype=bool)[:, None, :, None]
        norm = np.linalg.norm(weight.reshape(entries, rows, -1), axis=2)
        raw = np.where(own, np.log(np.where(own, weight, 1)), weight)
        params.append({"weight": raw, "log_norm": np.log(norm), "bias": np.asarray(linear.bias).reshape(entries, rows)})
    y, log_det = ours.forward_and_log_det(tuple(params), x, None)
    return y, log_det, other, other_log_det


def ffjord(points: int) -> Pairs:
    from tensorflow_probability.substrates.jax import bijectors
    from tensorflow_probability.substrates.jax import math as tfp_math

    entries = 3
    ours = Continuous(MLP((16,), jnp.tanh, final_scale=1.0), tolerance=1e-9)
    x = jax.random.normal(jax.random.key(0), (points, entries))
    params, state = ours.init(jax.random.key(1), x)
    y, log_det, _ = jax.jit(ours.forward)(params, state, x)

    def field(time, z):
        return ours.velocity(params, state, z, time)

    theirs = bijectors.FFJORD(
        field,
        ode_solve_fn=tfp_math.ode.DormandPrince(rtol=1e-9, atol=1e-9).solve,
        trace_augmentation_fn=bijectors.ffjord.trace_jacobian_exact,
        dtype=jnp.float64,
    )
    other = theirs.forward(x)
    return y, log_det, other, theirs.forward_log_det_jacobian(x, event_ndims=1)


@dataclass(frozen=True)
class Given:
    """A contraction whose matrices are what they are: swish(x)·W + b, layer by layer, as normflows has it."""

    hidden: tuple[int, ...]

    def init(self, key: jax.Array, x: jax.Array, context: Any = None) -> tuple[Any, Any]:
        layers = pairwise((x.shape[1], *self.hidden, x.shape[1]))
        return tuple((jnp.zeros((outputs, inputs)), jnp.zeros(outputs), jnp.ones(1)) for inputs, outputs in layers), ()

    def settle(self, params: Any, vectors: Any) -> Any:
        return vectors

    def weights(self, params: Any, vectors: Any) -> Any:
        return params

    def apply(self, weights: Any, x: jax.Array, context: Any = None) -> jax.Array:
        for matrix, shift, beta in weights:
            x = jax.nn.sigmoid(x * beta) * x / 1.1 @ matrix.T + shift
        return x


def residual(points: int) -> Pairs:
    import normflows
    import torch

    torch.manual_seed(0)
    network = normflows.nets.LipschitzMLP([2, 3, 2], init_zeros=False, lipschitz_const=0.98).double()
    with torch.no_grad():  # steep, as a network is that was trained
        for linear in network.net[1::2]:
            linear.weight.mul_(10)
            linear.compute_weight(update=True, n_iterations=100)
    block = normflows.flows.Residual(network, reverse=False, brute_force=True, reduce_memory=False).double().eval()
    x = np.random.default_rng(0).normal(size=(points, 2))
    other, other_log_det = block.forward(torch.tensor(x, requires_grad=True))
    weights = []
    for swish, linear in zip(network.net[0::2], network.net[1::2]):
        matrix = linear.compute_weight(update=False)
        beta = torch.nn.functional.softplus(swish.beta)
        weights.append(tuple(jnp.asarray(part.detach().numpy()) for part in (matrix, linear.bias, beta)))
    state = {"network": (), "noise": ()}
    y, log_det, _ = InvertibleResidual(Given((3,))).forward(tuple(weights), state, jnp.asarray(x))
    return y, log_det, other.detach().numpy(), other_log_det.detach().numpy()


MAPS: dict[str, Callable[[int], Pairs]] = {
    "`CircularSpline`, normflows": circular_spline,
    "`CircularSpline`, zuko": circular_spline_of_zuko,
    "`BernsteinPolynomial`, zuko": bernstein,
    "`SumOfSquares`, zuko": sum_of_squares,
    "`BlockAutoregressive`, flowjax": block_network,
    "`Continuous`, TFP's `FFJORD`, both to 1e-9": ffjord,
    "`InvertibleResidual`, normflows": residual,
}


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m experiments.kit.same_maps", description=__doc__)
    )
    jax.config.update("jax_enable_x64", True)
    print("| map | largest difference of y | of log_det | largest log_det |\n|---|---|---|---|")
    worst = 0.0
    for name, compare in MAPS.items():
        y, log_det, other, other_log_det = map(np.asarray, compare(options.points))
        of_y, of_log_det = (np.max(np.abs(a - b.reshape(a.shape))) for a, b in ((y, other), (log_det, other_log_det)))
        worst = max(worst, of_y, of_log_det)
        print(f"| {name} | {of_y:.1e} | {of_log_det:.1e} | {np.max(np.abs(log_det)):.3g} |", flush=True)
    print(f"same_maps: {len(MAPS)} maps, the largest difference is {worst:.1e}")


if __name__ == "__main__":
    command_line.run(main)
