"""How the programs have convolutions compiled."""

import os
import subprocess
import sys

import jax
import pytest

from experiments.machine.convolutions import FLAG, compile_convolutions_fast


@pytest.mark.parametrize(
    "version, flags, options",
    [
        ((0, 10, 2), "", 1),
        ((0, 10, 2), "--xla_force_host_platform_device_count=2", 2),
        ((0, 10, 2), f"--{FLAG}=LIBRARY_FUSION_TYPE_DOT", 1),  # the user's own stands
        ((0, 10, 2), "/a/file/of/flags", 1),
        ((0, 11, 0), "--xla_force_host_platform_device_count=2", 1),
        ((0, 12, 0), "", 0),
    ],
)
def test_only_jax_0_10_is_told_and_the_users_flags_stand(monkeypatch, version, flags, options):
    monkeypatch.setattr(jax, "__version_info__", version)
    monkeypatch.setenv("XLA_FLAGS", flags)
    compile_convolutions_fast()
    told = os.environ["XLA_FLAGS"]
    assert told.startswith(flags) and len(told.split()) == options


PROGRAM = """
import sys
import jax, jax.numpy as jnp
from experiments import command_line

def main(arguments):
    x, kernel = jnp.ones((16, 32, 32, 32)), jnp.ones((3, 3, 32, 32))
    layout = ("NHWC", "HWIO", "NHWC")
    convolve = jax.jit(lambda *xs: jax.lax.conv_general_dilated(*xs, (1, 1), "SAME", dimension_numbers=layout))
    print("ynn" in convolve.lower(x, kernel).compile().as_text())

command_line.run(main, []) if sys.argv[1] == "program" else main([])
"""


@pytest.mark.skipif(jax.__version_info__ >= (0, 11), reason="told to JAX 0.10 alone")
@pytest.mark.parametrize("started, by_ynnpack", [("program", "False"), ("alone", "True")])
def test_programs_keep_convolutions_out_of_ynnpack(started, by_ynnpack):
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    command = [sys.executable, "-c", PROGRAM, started]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout.strip()) == (0, by_ynnpack), ended.stderr
