"""Convolutions stay outside of loops on the CPU: its compiler runs them 6 to 12 times slower inside.

A loop of one pass is taken away by the compiler, but only after it has put convolutions into the order of axes that its
fast path takes: those of the loop stay in another.
"""

import re

import jax
import jax.numpy as jnp
import pytest

from nvpjax import real_nvp

FAST = "dim_labels=b01f_01io->b01f"


def slow_convolutions(program: str) -> list[str]:
    """Of a compiled program's text, the convolutions that a loop reaches, however deep, and those of another order."""
    bodies = dict(re.findall(r"^%(\S+) \(.*?\{\n(.*?)^\}", program, re.MULTILINE | re.DOTALL))
    reached, inside = re.findall(r"body=%([^\s,})]+)", program), set()
    while reached:
        name = reached.pop()
        if name not in inside:
            inside.add(name)
            reached += re.findall(r"(?:calls|to_apply|body|condition)=%([^\s,})]+)", bodies[name])
    in_loops = [line for name in inside for line in bodies[name].splitlines() if " convolution(" in line]
    return in_loops + [line for line in program.splitlines() if " convolution(" in line and FAST not in line]


@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("scan", [None, True])
def test_train_step_of_a_real_nvp_holds_no_slow_convolution(blocks, scan):
    flow = real_nvp(1, features=2, blocks=blocks, scan=scan)
    x = jnp.full((2, 8, 8, 1), 0.5)
    params, state = jax.eval_shape(flow.init, jax.random.key(0), x)

    def loss(params, state, x):
        return flow.log_prob(params, state, x, train=True)[0].sum()

    program = jax.jit(jax.grad(loss)).lower(params, state, x).compile().as_text()
    assert bool(slow_convolutions(program)) == bool(scan)  # those that are asked for are found
