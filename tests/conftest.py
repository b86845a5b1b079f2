"""Settings of all tests: four virtual CPU devices, and compiled programs kept from run to run."""

import os
from pathlib import Path

# Before jax is imported, and for the programs that tests start.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".jax_cache"))
# Tests run many programs a few times each: compiling takes nearly all of the time, and half as long unoptimised.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import jax

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4)

pytest_plugins = ["nvpjax.testing.plugin"]


def pytest_collection_modifyitems(items):
    # What runs in one process from end to end goes first: at the end it would keep the others waiting.
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)
