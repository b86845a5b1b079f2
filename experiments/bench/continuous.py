"""Continuous flows by tolerance: evaluations a solve, errors, and milliseconds beside TFP's and bijx's.

Usage: python -m experiments.bench.continuous [--points 256] [--entries 8] [--repeats 5]

One field, a network far from its start, with exact traces. Errors are the largest over the points, in float64: of
x − inverse(forward(x)), and of the log-det against a solve to 1e-12. Milliseconds are medians in turns, float32: of
log_det of all points, and of its gradient. TFP (Dormand-Prince) and bijx (Tsit5 by diffrax) adapt one step size to a
mean over the whole batch, so that an equal tolerance is another error there: compare rows of about equal errors.
They are of the extra "peers"; where one is not installed it is left out.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from experiments import command_line
from experiments.bench.timing import medians_in_turns
from nvpjax.continuous import Continuous
from nvpjax.nets import ConcatSquash

TOLERANCES = (1e-3, 1e-4, 1e-5, 1e-6, 1e-8)
COMPARED = (1e-4, 1e-5, 1e-6)
"""Beside the others, in float32."""


@dataclass(frozen=True)
class Arguments:
    points: int = 256
    """In a batch."""
    entries: int = 8
    """Of each point."""
    repeats: int = 5
    """Of each timing."""


def made(flow: Continuous, options: Arguments):
    x = jax.random.normal(jax.random.key(0), (options.points, options.entries))
    params, state = flow.init(jax.random.key(1), x)
    moved = [leaf + 0.1 * jax.random.normal(jax.random.key(2), leaf.shape) for leaf in jax.tree.leaves(params)]
    return jax.tree.unflatten(jax.tree.structure(params), moved), state, x


def doubled(given):
    """The same numbers in float64: to call where x64 is on, of what was made where it was off."""
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, np.float64)), given)


def exact_log_det(flow: Continuous, given) -> np.ndarray:
    """Solved to 1e-12, in float64."""
    with jax.enable_x64(True):
        return np.asarray(jax.jit(replace(flow, tolerance=1e-12).log_det)(*doubled(given)))


def errors(flow: Continuous, options: Arguments) -> str:
    given = made(flow, options)
    exact = exact_log_det(flow, given)
    with jax.enable_x64(True):
        params, state, x = doubled(given)
        y, log_det, _ = jax.jit(flow.forward)(params, state, x)
        back, _ = jax.jit(flow.inverse)(params, state, y)
        evaluations = np.asarray(jax.jit(flow.evaluations)(params, state, x))
        round_trip, of_log_det = float(jnp.abs(back - x).max()), float(np.abs(log_det - exact).max())
        return f"{np.median(evaluations):.0f}, {evaluations.max()} | {round_trip:.1e} | {of_log_det:.1e}"


def tfp_log_det(flow: Continuous) -> Callable:
    from tensorflow_probability.substrates.jax import bijectors
    from tensorflow_probability.substrates.jax import math as tfp_math

    def log_det(params, state, x):
        bijector = bijectors.FFJORD(
            lambda time, z: flow.velocity(params, state, z, time),
            ode_solve_fn=tfp_math.ode.DormandPrince(rtol=flow.tolerance, atol=flow.tolerance).solve,
            trace_augmentation_fn=bijectors.ffjord.trace_jacobian_exact,
        )
        return bijector.forward_log_det_jacobian(x, event_ndims=1)

    return log_det


def bijx_log_det(flow: Continuous) -> Callable:
    import bijx
    import diffrax

    config = bijx.DiffraxConfig(stepsize_controller=diffrax.PIDController(rtol=flow.tolerance, atol=flow.tolerance))

    def log_det(params, state, x):
        def field(time, z):
            def of_one(z):
                value, trace = flow.trace.value_and_trace(
                    lambda z: flow.velocity(params, state, z[None], time)[0], z, None
                )
                return value, -trace

            return jax.vmap(of_one)(z)

        _, log_density = bijx.ContFlowDiffrax(field, config).forward(x, jnp.zeros(len(x)))
        return -log_density

    return log_det


def times(base: Continuous, options: Arguments) -> int:
    """Print the table of libraries by tolerance; give the number of libraries."""
    params, state, x = given = made(base, options)
    libraries = {"nvpjax": lambda flow: flow.log_det}
    for library, module, make in (("TFP", "tensorflow_probability", tfp_log_det), ("bijx", "bijx", bijx_log_det)):
        if importlib.util.find_spec(module):
            libraries[library] = make
    exact, runs, rows = exact_log_det(base, given), {}, {}
    for tolerance in COMPARED:
        for library, make in libraries.items():
            log_det = make(replace(base, tolerance=tolerance))
            value, gradient = jax.jit(log_det), jax.jit(jax.grad(lambda *given, f=log_det: jnp.sum(f(*given))))
            row = (library, tolerance)
            rows[row] = float(np.abs(np.asarray(value(params, state, x)) - exact).max())
            runs[(*row, "log_det")] = lambda value=value: jax.block_until_ready(value(params, state, x))
            try:
                jax.block_until_ready(gradient(params, state, x))
            except jax.errors.UnexpectedTracerError:  # TFP's: of a field's parameters in a closure
                continue
            runs[(*row, "gradient")] = lambda gradient=gradient: jax.block_until_ready(gradient(params, state, x))
    medians = medians_in_turns(runs, options.repeats)
    print("\n| | tolerance | largest error of the log-det | log_det, ms | gradient, ms |\n" + "|---" * 5 + "|")
    for (library, tolerance), error in rows.items():
        value, gradient = (medians.get((library, tolerance, what)) for what in ("log_det", "gradient"))
        of_gradient = f"{1000 * gradient:.1f}" if gradient else "none"
        print(f"| {library} | {tolerance:.0e} | {error:.1e} | {1000 * value:.1f} | {of_gradient} |")
    return len(libraries)


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m experiments.bench.continuous", description=__doc__)
    )
    base = Continuous(ConcatSquash((64, 64)))
    print("| tolerance | evaluations, median and most | of the round trip | of the log-det |\n" + "|---" * 4 + "|")
    for tolerance in TOLERANCES:
        print(f"| {tolerance:.0e} | {errors(replace(base, tolerance=tolerance), options)} |", flush=True)

    compared = times(base, options)
    print(f"continuous: {len(TOLERANCES)} tolerances and {compared} libraries, {options.points} points")


if __name__ == "__main__":
    command_line.run(main)
