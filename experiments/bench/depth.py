"""What depth costs: compile time, temporary memory and step time of a flow of vectors, by how it goes back.

Usage: python -m experiments.bench.depth [--layers 8 64 128] [--repeats 5] [--strong]

A train step (Adam) of affine couplings with halves in turns. Temporary memory is the compiler's own figure, of the
gradient alone and of the step, which keeps gradients and new parameters until it knows that they are finite. Seconds of
compilation, the step's, are the median of three. With --strong inverses are ill-conditioned: where the error of what is
rebuilt is above its bound, every k-th layer's input is stored, k chosen from the error. A gradient's error is its
difference from the gradient by stored activations, relative to its norm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from jax.flatten_util import ravel_pytree

from experiments import command_line
from experiments.bench.timing import compiled_anew, medians_in_turns
from nvpjax import Affine, ChannelMask, Checkpointed, Coupling, Flow, Likelihood, Repeat, Reversible, TanhBound
from nvpjax.nets import MLP
from nvpjax.objectives import Batch, Objective
from nvpjax.places import error_places, with_places
from nvpjax.reversible import layers_between_stored
from nvpjax.training import create_train_state, make_train_step


@dataclass(frozen=True)
class Arguments:
    layers: tuple[int, ...] = (8, 64, 128)
    """Numbers of couplings."""
    entries: int = 64
    """Of a vector."""
    hidden: int = 256
    """Width of each network's two hidden layers."""
    batch_size: int = 512
    """Vectors a step."""
    repeats: int = 5
    """Steps of each kind, in turns; the medians count."""
    strong: bool = False
    """Output layers of the networks four times as large."""


def couplings(layers: int, entries: int, hidden: int) -> Repeat:
    network = MLP((hidden, hidden), final_scale=1.0)
    coupling = Coupling(ChannelMask(), Affine(TanhBound(initial_scale=1.0)), network)
    return Repeat(coupling, layers, alternate=True)


def forms(plain: Repeat, batch: Batch, strong: bool) -> dict[str, tuple[Objective, tuple]]:
    """Flows with the same params, by how they go back, each as an objective with its params and state."""
    init = jax.jit(lambda bijector: Likelihood(Flow(bijector)).init(jax.random.key(1), batch), static_argnums=0)
    params, state = init(plain)
    output = params["bijector"]["conditioner"]["Dense_2"]
    output["kernel"] = output["kernel"] * (0.4 if strong else 0.1)

    def reversible(every):
        return Likelihood(Flow(Reversible(plain, every=every))), (params, init(Reversible(plain, every=every))[1])

    every, error = None, _reconstruction_error(*reversible(None), batch)
    name = f"reversible, error {error:.0e}"
    while not error <= Reversible(plain).bound and every != 1:
        every = layers_between_stored(error, every or plain.times)
        error = _reconstruction_error(*reversible(every), batch)
        name += f", every {every}: {error:.0e}"
    return {
        "stored": (Likelihood(Flow(plain)), (params, state)),
        "checkpointed": (Likelihood(Flow(Checkpointed(plain))), (params, state)),
        name: reversible(every),
    }


def _loss(objective: Objective, params, state, batch: Batch) -> jax.Array:
    return jnp.mean(objective(params, state, jax.random.key(0), batch)[0])


def gradient(objective: Objective, params, state, batch: Batch):
    """Of the mean nats, with respect to params."""
    return jax.grad(_loss, argnums=1)(objective, params, state, batch)


def _reconstruction_error(objective: Objective, variables: tuple, batch: Batch) -> float:
    params, state = variables

    def loss(places):
        return _loss(objective, params, with_places(state, places), batch)

    (error,) = jax.jit(jax.grad(loss))(error_places(state))
    return float(error)


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m experiments.bench.depth", description=__doc__)
    )
    optimizer = optax.adam(1e-3)
    key, x = jax.random.key(0), np.random.default_rng(0).standard_normal((options.batch_size, options.entries))
    batch = {"x": x.astype(np.float32)}
    columns = ("layers", "backward by", "trace + compile, s", "temporary of the gradient, MB", "of the step, MB")
    print(f"| {' | '.join(columns)} | step, ms | of stored | gradient's error |")
    print("|---|---|---|---|---|---|---|---|")
    for layers in options.layers:
        steps, seconds, memory, gradients = {}, {}, {}, {}
        plain = couplings(layers, options.entries, options.hidden)
        for name, (objective, (params, state)) in forms(plain, batch, options.strong).items():
            start = create_train_state(objective, optimizer, key, batch)._replace(params=params, state=state)
            variables = (start, key, batch)
            compiled, seconds[name] = compiled_anew(make_train_step(objective, optimizer), *variables, times=3)
            steps[name] = lambda compiled=compiled, variables=variables: compiled(*variables)
            of_gradient, _ = compiled_anew(partial(gradient, objective), params, state, batch)
            memory[name] = [one.memory_analysis().temp_size_in_bytes / 1e6 for one in (of_gradient, compiled)]
            flat = ravel_pytree(of_gradient(params, state, batch))[0]
            gradients[name] = np.asarray(flat, np.float64)  # its square may be too large for float32
        medians = medians_in_turns(steps, options.repeats, f"{layers} layers")
        for name, median in medians.items():
            difference = np.linalg.norm(gradients[name] - gradients["stored"]) / np.linalg.norm(gradients["stored"])
            of_gradient, of_step = memory[name]
            print(
                f"| {layers} | {name} | {seconds[name]:.2f} | {of_gradient:.1f} | {of_step:.1f} | "
                f"{1000 * median:.0f} | {median / medians['stored']:.2f} | {difference:.1e} |",
                flush=True,
            )
    print(f"{options}, jax {jax.__version__}, {jax.devices()[0].device_kind}")


if __name__ == "__main__":
    command_line.run(main, compile_anew=True)
