"""Data parallelism with pmap: what goes to the devices, and what comes back.

The step itself is ``training.make_train_step`` with an ``axis_name``; here are the few lines around it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

_Tree = TypeVar("_Tree")
_Step = TypeVar("_Step", bound=Callable)
Devices = Sequence[jax.Device]  # pyright: ignore[reportInvalidTypeForm] (jaxlib, where the class is, has no types)

AXIS = "devices"
"""The name of the pmap axis, for models and steps that average over it."""


def replicate(tree: _Tree, devices: Devices | None = None) -> _Tree:
    """Give every local device a copy: each leaf gains a leading axis of the number of devices."""
    devices = list(devices or jax.local_devices())
    sharding = NamedSharding(Mesh(np.array(devices), (AXIS,)), PartitionSpec(AXIS))

    def place(leaf):
        # From host memory: a leaf that is on a device already could share its buffer with the copy, and a donated
        # copy would then delete the original.
        leaf = np.asarray(leaf)
        return jax.device_put(np.broadcast_to(leaf[None], (len(devices), *leaf.shape)), sharding)

    return jax.tree.map(place, tree)


def unreplicate(tree: _Tree) -> _Tree:
    """Take the first device's copy to host memory, as numpy arrays."""
    return jax.tree.map(lambda leaf: np.asarray(leaf.addressable_shards[0].data)[0], tree)


def shard(batch: _Tree, number: int) -> _Tree:
    """Divide a batch among ``number`` devices: each array ``(batch, ...)`` to ``(number, batch/number, ...)``."""

    def divided(leaf):
        if len(leaf) % number:
            raise ValueError(
                f"shard: expected a batch that {number} devices divide evenly, got {len(leaf)}. "
                f"Choose a batch size that is a multiple of {number}."
            )
        return leaf.reshape(number, len(leaf) // number, *leaf.shape[1:])

    return jax.tree.map(divided, batch)


def parallel_init(init: _Step, devices: Devices | None = None) -> _Step:
    """Run ``init(key, batch)`` on all local devices, each with its shard of the batch; the key is shared.

    For flows that measure in ``init`` (``ActNorm(axis_name=AXIS)``): they then measure the global batch, and every
    device ends with the same numbers. What comes out is replicated.
    """
    return _waiting(jax.pmap(init, axis_name=AXIS, in_axes=(None, 0), devices=devices))


def parallel_train_step(step: _Step, devices: Devices | None = None) -> _Step:
    """Run ``step(train_state, key, batch)`` on all local devices; the key is shared, train state is donated."""
    return _waiting(jax.pmap(step, axis_name=AXIS, in_axes=(0, None, 0), donate_argnums=0, devices=devices))


def parallel_eval_step(step: _Step, devices: Devices | None = None) -> _Step:
    """Run ``step(params, state, key, batch)``, of evaluation or measuring, on all local devices; the key is shared."""
    return _waiting(jax.pmap(step, axis_name=AXIS, in_axes=(0, 0, None, 0), devices=devices))


def _waiting(step: Callable) -> Any:
    """On the CPU backend wait for each step: JAX 0.10 deadlocks there when steps with collectives queue up."""
    if jax.default_backend() != "cpu":
        return step
    return lambda *arguments: jax.block_until_ready(step(*arguments))
