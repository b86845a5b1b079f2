"""Periodic, monotone and residual flows beside the peer that has the same: a gradient of nats, and samples, in turns.

Usage: python -m experiments.bench.parts [--parts circular_splines ...] [--repeats 9]

Flows of three layers, networks of two times 64, as far as both take the same sizes; each library's is the flow that its
documentation builds. "monotone_networks" are the nearest of kin, not the same: mixtures of sigmoids here, a network of
positive weights there. Peers run as their users run them: PyTorch's eager, flowjax's compiled. They are of the extras
"peers" and "peers-torch"; those that are not installed are left out.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from experiments import command_line
from experiments.bench.timing import medians_in_turns
from experiments.errors import UserError
from nvpjax import (
    Autoregressive,
    BernsteinPolynomial,
    Bijector,
    BlockAutoregressive,
    Chain,
    CircularSpline,
    Distribution,
    Flow,
    InvertibleResidual,
    Likelihood,
    LogisticMixture,
    MonotoneIntegral,
    Repeat,
    Reverse,
    SeriesLogDet,
    StandardNormal,
    SumOfSquares,
    UniformCircle,
    Wrap,
)
from nvpjax.bijectors.transforms import Transform
from nvpjax.nets import MADE, MLP, ContractiveMLP, OfAngles
from nvpjax.testing import moved_from_start

HIDDEN = (64, 64)
LAYERS = 3


class Runs(NamedTuple):
    """Each gives what there is to wait for."""

    gradient: Callable[[], Any]
    sample: Callable[[], Any] | None
    """None where the library's flow cannot."""


@dataclass(frozen=True)
class Part:
    ours: Flow
    peer: str
    """Its library."""
    theirs: Callable[[np.ndarray, int], Runs]
    entries: int = 8
    draw: Callable[[np.random.Generator, tuple[int, int]], np.ndarray] = np.random.Generator.standard_normal


def autoregressive(transform: Transform, entries: tuple[int, ...] = ()) -> Flow:
    network = OfAngles(MADE(HIDDEN), entries) if entries else MADE(HIDDEN)
    base: Distribution = UniformCircle() if entries else StandardNormal()
    first: tuple[Bijector, ...] = (Wrap(),) if entries else ()
    layers = Repeat(Chain((Autoregressive(transform, network), Reverse())), LAYERS)
    return Flow(Chain((*first, layers)), base)


def of_ours(flow: Flow, x: np.ndarray, number: int) -> Runs:
    objective, batch, key = Likelihood(flow), {"x": jnp.asarray(x)}, jax.random.key(0)
    params, state = jax.jit(objective.init)(key, batch)
    params = moved_from_start(key, params, 0.05)
    gradient = jax.jit(jax.grad(lambda params: jnp.mean(objective(params, state, key, batch, train=True)[0])))
    sample = jax.jit(lambda params: flow.at(params, state).sample(key, number))
    return Runs(lambda: gradient(params), lambda: sample(params))


def of_zuko(name: str, x: np.ndarray, number: int, **sizes: Any) -> Runs:
    import torch
    import zuko

    torch.manual_seed(0)
    flow, points = getattr(zuko.flows, name)(x.shape[1], transforms=LAYERS, **sizes), torch.tensor(x)

    def gradient():
        flow.zero_grad()
        loss = -flow().log_prob(points).mean()
        loss.backward()
        return loss.item()

    def sample():
        with torch.no_grad():
            return flow().sample((number,)).numpy()

    return Runs(gradient, sample)


def block_networks_of_flowjax(x: np.ndarray, number: int) -> Runs:
    import equinox
    from flowjax.distributions import Normal
    from flowjax.flows import block_neural_autoregressive_flow

    flow = block_neural_autoregressive_flow(
        jax.random.key(0), base_dist=Normal(jnp.zeros(x.shape[1])), nn_depth=2, nn_block_dim=8, flow_layers=LAYERS
    )
    gradient = equinox.filter_jit(equinox.filter_grad(lambda flow, x: -jnp.mean(flow.log_prob(x))))
    return Runs(lambda: jax.tree.leaves(gradient(flow, x)), None)  # it samples by a search of the user's own


def residual_of_normflows(x: np.ndarray, number: int, **log_det: Any) -> Runs:
    import normflows
    import torch

    torch.manual_seed(0)
    sizes = [x.shape[1], *HIDDEN, x.shape[1]]
    blocks = [
        normflows.flows.Residual(normflows.nets.LipschitzMLP(sizes, init_zeros=False, lipschitz_const=0.97), **log_det)
        for _ in range(LAYERS)
    ]
    flow, points = normflows.NormalizingFlow(normflows.distributions.DiagGaussian(x.shape[1]), blocks), torch.tensor(x)

    def gradient():
        flow.zero_grad()
        loss = flow.forward_kld(points)
        loss.backward()
        normflows.utils.update_lipschitz(flow, 5)
        return loss.item()

    def sample():
        with torch.no_grad():
            return flow.sample(number)[0].numpy()

    return Runs(gradient, sample)


def angles(generator: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return generator.uniform(-np.pi, np.pi, shape)


def residual(log_det_by: Any = None) -> Flow:
    options = {} if log_det_by is None else {"log_det_by": log_det_by}
    return Flow(Repeat(InvertibleResidual(ContractiveMLP(HIDDEN, 0.97), **options), LAYERS))


SIZES = {"hidden_features": HIDDEN}
PARTS: dict[str, Part] = {
    "circular_splines": Part(
        autoregressive(CircularSpline(8), tuple(range(8))),
        "zuko",
        partial(of_zuko, "NCSF", bins=8, **SIZES),
        draw=angles,
    ),
    "bernstein_polynomials": Part(
        autoregressive(BernsteinPolynomial(16, 5.0)), "zuko", partial(of_zuko, "BPF", degree=16, **SIZES)
    ),
    "sums_of_squares": Part(
        autoregressive(SumOfSquares(3, 4)), "zuko", partial(of_zuko, "SOSPF", polynomials=3, degree=4, **SIZES)
    ),
    "monotone_networks": Part(
        autoregressive(LogisticMixture(16)),
        "zuko",
        partial(of_zuko, "NAF", signal=16, network={"hidden_features": (16,)}, **SIZES),
    ),
    "monotone_integrals": Part(
        autoregressive(MonotoneIntegral(MLP(HIDDEN, jax.nn.elu), embedding=16, limit=5.0)),
        "zuko",
        partial(of_zuko, "UNAF", signal=16, network={"hidden_features": HIDDEN}, **SIZES),
    ),
    "block_networks": Part(
        Flow(Repeat(Chain((BlockAutoregressive((8, 8)), Reverse())), LAYERS)), "flowjax", block_networks_of_flowjax
    ),
    "residual, exact": Part(
        residual(), "normflows", partial(residual_of_normflows, brute_force=True, reduce_memory=False), entries=2
    ),
    "residual, series": Part(residual(SeriesLogDet()), "normflows", residual_of_normflows),
}


@dataclass(frozen=True)
class Arguments:
    parts: tuple[str, ...] = tuple(PARTS)
    """Which."""
    batch_size: int = 256
    """Rows of which a gradient is."""
    samples: int = 64
    """Drawn at once."""
    repeats: int = 9
    """Of each, in turns; the medians count."""


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m experiments.bench.parts", description=__doc__)
    )
    unknown = sorted({*options.parts} - {*PARTS})
    if unknown:
        raise UserError(f"--parts {' '.join(unknown)}: expected names among {', '.join(PARTS)}")
    print(
        "| part | peer | gradient, ms, peer's | of its time | samples, ms, peer's | of its time |\n" + "|---" * 6 + "|"
    )
    worst, compared = 0.0, 0
    for name in options.parts:
        part = PARTS[name]
        x = part.draw(np.random.default_rng(0), (options.batch_size, part.entries)).astype(np.float32)
        both = {"nvpjax": of_ours(part.ours, x, options.samples)}
        if importlib.util.find_spec(part.peer):
            both[part.peer] = part.theirs(x, options.samples)
        cells = []
        for kind in ("gradient", "sample"):
            runs = {who: getattr(runs, kind) for who, runs in both.items() if getattr(runs, kind)}
            medians = medians_in_turns(runs, options.repeats, f"{name}, {kind}")
            own, other = medians["nvpjax"], medians.get(part.peer)
            if other is None:
                cells.append(f"{1000 * own:.2f}, none | none")
                continue
            worst, compared = max(worst, own / other), compared + 1
            cells.append(f"{1000 * own:.2f}, {1000 * other:.2f} | {own / other:.2f}")
        print(f"| {name} | {part.peer} | {' | '.join(cells)} |", flush=True)
    print(
        f"parts: at worst {worst:.2f} of a peer's time in {compared} comparisons, {options.repeats} turns, "
        f"jax {jax.__version__}"
    )


if __name__ == "__main__":
    command_line.run(main, compile_anew=True)
