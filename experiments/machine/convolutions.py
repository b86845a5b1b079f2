"""How the CPU's compiler computes convolutions."""

from __future__ import annotations

import os

import jax

FLAG = "xla_cpu_experimental_ynn_fusion_type"
KEPT = "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE"


def compile_convolutions_fast() -> None:
    """With JAX 0.10 keep convolutions out of YNNPACK; to be called before anything is compiled.

    There it takes 3.4 ms for what Eigen does in 1.8 (16 images of 32x32, 32 to 32 maps): the step of
    ``experiments.bench.image`` comes from 0.36 to 0.42 … 0.54 of the rate of a matrix product. From JAX 0.11 on both
    are as fast. Products and sums, which are the rest of the flag's default, stay where they were. A flag of the user's
    own stands. JAX 0.10's plugins for GPUs and TPUs know the flag too, and do nothing with it: an unknown one would end
    the program.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    names_a_file = flags.strip() and not flags.strip().startswith("-")  # which XLA reads for flags
    if jax.__version_info__ < (0, 11) and FLAG not in flags and not names_a_file:
        os.environ["XLA_FLAGS"] = f"{flags} --{FLAG}={KEPT}".strip()
