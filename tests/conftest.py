"""Settings of all tests: four virtual CPU devices, and compiled programs kept from run to run."""

import gc
import importlib.metadata
import os
from pathlib import Path

# Before jax is imported, and for the programs that tests start.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".jax_cache"))
# Tests run many programs a few times each: compiling takes nearly all of the time. Unoptimised, in one piece and by the
# older emitters, which JAX 0.12 no longer has, it takes a quarter of it.
FAST_TO_COMPILE = ["--xla_backend_optimization_level=0", "--xla_cpu_parallel_codegen_split_count=1"]
if importlib.metadata.version("jax").startswith("0.10."):
    FAST_TO_COMPILE.append("--xla_cpu_use_fusion_emitters=false")
os.environ.setdefault("XLA_FLAGS", " ".join(FAST_TO_COMPILE))
# Where in Python each operation comes from is looked up for messages: a tenth of all.
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import jax  # noqa: E402
import pytest  # noqa: E402

from experiments import train  # noqa: E402
from experiments.data.noise import Uniform  # noqa: E402
from tests.runs import config_of  # noqa: E402

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4)

pytest_plugins = ["nvpjax.testing.plugin"]


def pytest_collection_modifyitems(items):
    # What runs in one process from end to end goes first: at the end it would keep the others waiting.
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """Where digits are prepared, once."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def config(data_dir):
    """Of a small run: digits, four couplings, six steps, evaluated after every second."""
    return config_of(
        "digits",
        data={"data_dir": data_dir, "noise": Uniform()},
        model={"scales": 1, "features": 2, "blocks": 0},
        training={"batch_size": 8, "steps": 6, "eval_every": 2, "measure_batches": 2},
    )


@pytest.fixture(scope="session")
def calm(config, tmp_path_factory):
    """The directory of a run of that config, to which nothing happened. Tests change copies of it."""
    run_dir = tmp_path_factory.mktemp("runs") / "calm"
    train.train(config, run_dir)
    return run_dir


_compiled = 0


def _count_compiled(event, seconds, **_):
    global _compiled
    _compiled += event == "/jax/core/compile/backend_compile_duration"


jax.monitoring.register_event_duration_secs_listener(_count_compiled)


@pytest.fixture(autouse=True)
def room_for_programs():
    """Forget compiled programs before there are too many.

    On the CPU each kernel is mapped into memory on its own, and Linux allows a process 65,530 mappings
    (vm.max_map_count): beyond them jax ends with a segmentation fault. Memory that they take is limited too. It is
    looked at after every hundredth program alone: to read a long list of mappings takes a third of a second.
    """
    yield
    global _compiled
    mappings, pages = Path("/proc/self/maps"), Path("/proc/self/statm")
    if _compiled < 100 or not mappings.exists():
        return
    _compiled = 0
    resident = int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    if mappings.read_bytes().count(b"\n") > 30_000 or resident > 3 * 2**30:
        jax.clear_caches()
        gc.collect()
