"""How the programs have convolutions compiled."""

import os

import jax
import pytest

from experiments.convolutions import FLAG, KEPT, compile_convolutions_fast


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


@pytest.mark.skipif(jax.__version_info__ >= (0, 11), reason="told to JAX 0.10 alone")
def test_xla_knows_the_flag():
    jax.jit(lambda x: x + 1).lower(1.0).compile(compiler_options={FLAG: KEPT})
