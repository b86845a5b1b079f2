"""A causal transformer block, forward and back, by this library and by PyTorch, beside the matrix product's rate.

Usage: python -m experiments.bench.transformer [--sizes 64x49x128 8x256x256] [--repeats 15]

Both have the same block: normalisation before, attention of heads of 64 channels over the positions before and one's
own, a network of four times the width with GELU, biases everywhere. Gradients are of the parameters and of what comes
in, in float32. All take turns in one run, a matrix product too. PyTorch, of the extra "peers-torch", is left out where
it is not installed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from experiments import command_line
from experiments.bench.products import operations_of_products
from experiments.bench.programs import matrix_product
from experiments.bench.timing import medians_in_turns
from experiments.errors import UserError
from nvpjax.nets.attention import attention, init_block, through_blocks

HEAD = 64


@dataclass(frozen=True)
class Arguments:
    sizes: tuple[str, ...] = ("64x49x128", "8x256x256")
    """Sequences x positions x channels."""
    matrix: int = 2048
    """Rows and columns of the matrices whose product sets the mark."""
    repeats: int = 15
    """Of each, in turns; the medians count."""


def ours(h: np.ndarray) -> tuple[Callable[[], object], float]:
    """Value and gradients, and the operations of its products."""
    positions, width = h.shape[1:]
    seen = jnp.tri(positions, dtype=bool)

    def attend(number, query, key, value):
        return attention(query, key, value, seen)

    def value(block, h):
        return jnp.sum(through_blocks([block], h, width // HEAD, attend) ** 2)

    both = jax.jit(jax.value_and_grad(value, argnums=(0, 1)))
    arguments = init_block(jax.random.key(0), width), jnp.asarray(h)
    return lambda: both(*arguments), operations_of_products(both, *arguments)


def by_torch(h: np.ndarray) -> Callable[[], object]:
    import torch
    from torch import nn

    positions, width = h.shape[1:]
    block = nn.TransformerEncoderLayer(
        width, width // HEAD, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    entering = torch.tensor(h, requires_grad=True)
    mask = nn.Transformer.generate_square_subsequent_mask(positions)

    def run():
        block.zero_grad()
        entering.grad = None
        block(entering, src_mask=mask, is_causal=True).square().sum().backward()

    return run


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m experiments.bench.transformer", description=__doc__)
    )
    product = matrix_product(options.matrix)
    print("| block | sequences x positions x channels | ms | GFLOP/s | of the product's | of PyTorch's time |")
    print("|---|---|---|---|---|---|")
    for size in options.sizes:
        try:
            shape = tuple(map(int, size.split("x")))
            ok = len(shape) == 3 and min(shape) > 0 and shape[2] % HEAD == 0
        except ValueError:
            ok = False
        if not ok:
            raise UserError(f"--sizes {size}: expected three numbers such as 64x49x128, the last a multiple of {HEAD}")
        h = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        run, operations = ours(h)
        runs = {"product": product.run, "nvpjax": run}
        if importlib.util.find_spec("torch"):
            runs["PyTorch, eager"] = by_torch(h)
        medians = medians_in_turns(runs, options.repeats)
        mark = product.operations / medians["product"]
        for name in list(runs)[1:]:
            rate, torch = operations / medians[name], medians.get("PyTorch, eager")
            share = f"{medians[name] / torch:.2f}" if torch else ""
            row = f"{1000 * medians[name]:.1f} | {rate / 1e9:.0f} | {rate / mark:.2f} | {share}"
            print(f"| {name} | {size} | {row} |", flush=True)
    print(f"{options.matrix} x {options.matrix} product {mark / 1e9:.0f} GFLOP/s, jax {jax.__version__}")


if __name__ == "__main__":
    command_line.run(main, compile_anew=True, training=True)
