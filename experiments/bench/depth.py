"""What depth costs: compile time, temporary memory and step time of a flow of vectors, by how it goes back.

Usage: python -m experiments.bench.depth [--layers 8 64 128] [--repeats 5] [--strong]

A train step (Adam) of affine couplings with halves in turns. Temporary memory is the compiler's own figure, seconds of
compilation are the median of three. With --strong inverses are ill-conditioned: where the error of what is rebuilt is
above its bound, every k-th layer's input is stored, k chosen from the error. A gradient's error is its difference from
the gradient by stored activations, relative to its norm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from jax.flatten_util import ravel_pytree

from experiments import command_line
from experiments.bench.timing import compiled_anew, medians_in_turns
from nvpjax import Affine, ChannelMask, Checkpointed, Coupling, Flow, Repeat, Reversible, TanhBound
from nvpjax.nets import MLP, FlaxConditioner
from nvpjax.reversible import ERROR, layers_between_stored


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
    network = FlaxConditioner(MLP((hidden, hidden), outputs=entries))
    coupling = Coupling(ChannelMask(), Affine(TanhBound(initial_scale=1.0)), network)
    return Repeat(coupling, layers, alternate=True)


def forms(plain: Repeat, x: jax.Array, strong: bool) -> dict[str, tuple[Flow, tuple]]:
    """Flows with the same params, by how they go back, each with its params and state."""
    params, state = jax.jit(Flow(plain).init)(jax.random.key(1), x)
    output = params["bijector"]["conditioner"]["Dense_2"]
    output["kernel"] = output["kernel"] * (0.4 if strong else 0.1)
    every, error = None, _reconstruction_error(Reversible(plain), params, x)
    name = f"reversible, error {error:.0e}"
    while not error <= Reversible(plain).bound and every != 1:
        every = layers_between_stored(error, every or plain.times)
        error = _reconstruction_error(Reversible(plain, every=every), params, x)
        name += f", every {every}: {error:.0e}"
    reversible = Flow(Reversible(plain, every=every))
    return {
        "stored": (Flow(plain), (params, state)),
        "checkpointed": (Flow(Checkpointed(plain)), (params, state)),
        name: (reversible, (params, reversible.init(jax.random.key(1), x)[1])),
    }


def _reconstruction_error(reversible: Reversible, params, x: jax.Array) -> float:
    flow = Flow(reversible)
    _, state = flow.init(jax.random.key(1), x)
    of_state = jax.jit(jax.grad(lambda state: jnp.mean(flow.log_prob(params, state, x)[0])))(state)
    return float(of_state[ERROR])


def train_step(flow: Flow, optimizer: optax.GradientTransformation) -> Callable:
    def step(params, optimizer_state, state, x):
        gradients = jax.grad(_loss(flow))(params, state, x)
        updates, optimizer_state = optimizer.update(gradients, optimizer_state, params)
        return optax.apply_updates(params, updates), optimizer_state

    return step


def _loss(flow: Flow) -> Callable:
    return lambda params, state, x: -jnp.mean(flow.log_prob(params, state, x)[0])


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m experiments.bench.depth", description=__doc__)
    )
    optimizer = optax.adam(1e-3)
    x = jax.random.normal(jax.random.key(0), (options.batch_size, options.entries))
    print("| layers | backward by | trace + compile, s | temporary, MB | step, ms | of stored | gradient's error |")
    print("|---|---|---|---|---|---|---|")
    for layers in options.layers:
        steps, seconds, memory, gradients = {}, {}, {}, {}
        plain = couplings(layers, options.entries, options.hidden)
        for name, (flow, (params, state)) in forms(plain, x, options.strong).items():
            variables = (params, optimizer.init(params), state, x)
            compiled, seconds[name] = compiled_anew(train_step(flow, optimizer), *variables, times=3)
            memory[name] = compiled.memory_analysis().temp_size_in_bytes / 1e6
            steps[name] = lambda compiled=compiled, variables=variables: compiled(*variables)
            gradient = ravel_pytree(jax.jit(jax.grad(_loss(flow)))(params, state, x))[0]
            gradients[name] = np.asarray(gradient, np.float64)  # its square may be too large for float32
        medians = medians_in_turns(steps, options.repeats, f"{layers} layers")
        for name, median in medians.items():
            difference = np.linalg.norm(gradients[name] - gradients["stored"]) / np.linalg.norm(gradients["stored"])
            print(
                f"| {layers} | {name} | {seconds[name]:.2f} | {memory[name]:.1f} | {1000 * median:.0f} | "
                f"{median / medians['stored']:.2f} | {difference:.1e} |",
                flush=True,
            )
    print(f"{options}, jax {jax.__version__}, {jax.devices()[0].device_kind}")


if __name__ == "__main__":
    command_line.run(main, compile_anew=True)
