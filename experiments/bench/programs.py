"""What benches run, and the operations it takes: a matrix product, which sets the mark, and a config's train step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from experiments.bench.batches import random_batch
from experiments.bench.timing import compiled_anew
from experiments.config import Config
from experiments.runs.build import build_train_state, build_train_step


@dataclass(frozen=True)
class Program:
    """Something to run, and what it takes."""

    run: Callable[[], object]
    operations: float
    """By the compiler's count."""
    parameters: int = 0
    compilation: float = 0.0
    """Seconds of tracing and compiling."""
    temporary: int = 0
    """Bytes."""


def matrix_product(size: int, dtype: str = "float32") -> Program:
    a = jax.random.normal(jax.random.key(0), (size, size), dtype)
    product = jax.jit(jnp.matmul)
    return Program(lambda: product(a, a), 2.0 * size**3)


def train_step(config: Config) -> Program:
    key, batch = jax.random.key(1), random_batch(config)
    held = [build_train_state(config, batch, axis_name=None)]
    parameters = sum(leaf.size for leaf in jax.tree.leaves(held[0].params))
    step = build_train_step(config, axis_name=None)
    compiled, seconds = compiled_anew(step, held[0], key, batch, donate_argnums=0)

    def run():
        held[0], metrics = compiled(held[0], key, batch)
        return metrics

    # Not the compiled program's count: what oneDNN computes (JAX 0.12) counts nothing there.
    return Program(run, operations(config), parameters, seconds, compiled.memory_analysis().temp_size_in_bytes)


def operations(config: Config) -> float:
    """Of a train step, counted before compilation and with no loops, whose bodies would count once.

    For the CPU wherever it runs: GPUs' compiler counts nothing before it compiles.
    """
    batch = random_batch(config)
    start = jax.eval_shape(lambda: build_train_state(config, batch, axis_name=None))
    step = build_train_step(config, axis_name=None, scan=False)
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        return jax.jit(step).lower(start, jax.random.key(1), batch).cost_analysis()["flops"]
