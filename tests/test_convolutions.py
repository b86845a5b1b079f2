"""How the programs have convolutions compiled."""

import os
import subprocess
import sys

import jax
import pytest

from experiments.machine.convolutions import BY_ONEDNN, BY_YNNPACK, compile_convolutions_fast


@pytest.mark.parametrize(
    "version, training, flags, options",
    [
        ((0, 10, 2), False, "", 1),
        ((0, 10, 2), True, "--xla_force_host_platform_device_count=2", 2),
        ((0, 10, 2), False, f"--{BY_YNNPACK}=LIBRARY_FUSION_TYPE_DOT", 1),  # the user's own stands
        ((0, 10, 2), False, "/a/file/of/flags", 1),
        ((0, 11, 0), True, "--xla_force_host_platform_device_count=2", 1),
        ((0, 12, 0), True, "", 2),
        ((0, 12, 0), False, "", 0),
        ((0, 12, 0), True, f"--{BY_ONEDNN}=false", 2),
        ((0, 12, 1), True, "/a/file/of/flags", 1),
        ((0, 13, 0), True, "", 0),
    ],
)
def test_each_jax_is_told_what_it_knows_and_the_users_flags_stand(monkeypatch, version, training, flags, options):
    monkeypatch.setattr(jax, "__version_info__", version)
    monkeypatch.setenv("XLA_FLAGS", flags)
    compile_convolutions_fast(training=training)
    told = os.environ["XLA_FLAGS"]
    assert told.startswith(flags) and len(told.split()) == options


PROGRAM = """
import sys
import jax, jax.numpy as jnp
from experiments import command_line
from nvpjax.nets.convolve import convolve

def main(arguments):
    def gradients(x, kernel):
        return jax.grad(lambda *xs: convolve(*xs).sum(), argnums=(0, 1))(x, kernel)

    for dtype in (jnp.float32, jnp.bfloat16):
        x, kernel = jnp.ones((16, 32, 32, 32), dtype), jnp.ones((3, 3, 32, 32), dtype)
        forward, backward = (jax.jit(f).lower(x, kernel).compile().as_text() for f in (convolve, gradients))
        in_float32 = dtype == jnp.bfloat16 and ("f32[16,32,32,32]" in forward + backward)
        print("ynn" in forward, "onednn$convolution" in forward, "onednn$convolution" in backward, in_float32)

command_line.run(main, [], training=True) if sys.argv[1] == "program" else main([])
"""


def told(started):
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    ended = subprocess.run([sys.executable, "-c", PROGRAM, started], env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.split("\n")


@pytest.mark.skipif(jax.__version_info__ >= (0, 11), reason="told to JAX 0.10 alone")
@pytest.mark.parametrize("started, by_ynnpack", [("program", "False"), ("alone", "True")])
def test_programs_keep_convolutions_out_of_ynnpack(started, by_ynnpack):
    assert told(started)[0].split()[0] == by_ynnpack


@pytest.mark.skipif(jax.__version_info__[:2] != (0, 12), reason="told to JAX 0.12 alone")
@pytest.mark.parametrize("started, by_onednn", [("program", "True"), ("alone", "False")])
def test_programs_give_convolutions_to_onednn(started, by_onednn):
    float32, bfloat16, *_ = told(started)
    assert float32.split()[1:3] == bfloat16.split()[1:3] == [by_onednn, by_onednn]
    if by_onednn == "True":
        assert bfloat16.split()[3] == "False"
