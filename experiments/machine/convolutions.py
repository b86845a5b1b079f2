"""How the CPU's compiler computes convolutions."""

from __future__ import annotations

import os
import warnings

import jax

BY_YNNPACK = "xla_cpu_experimental_ynn_fusion_type"
BY_ONEDNN = "xla_cpu_experimental_onednn_custom_call"


def compile_convolutions_fast(*, training: bool = False) -> None:
    """Let Eigen (JAX 0.10) or, in training, oneDNN (JAX 0.12) have the convolutions; before anything is compiled.

    With JAX 0.10 YNNPACK takes 3.4 ms for what Eigen does in 1.8 (16 images of 32x32, 32 to 32 maps): the step of
    ``experiments.bench.image`` comes from 0.36 to 0.42 … 0.54 of the rate of a matrix product. Products and sums, which
    are the rest of that flag's default, stay where they were.

    With JAX 0.12 oneDNN convolves at 335 GFLOP/s what YNNPACK does at 226 (32 images of 32x32, 32 to 32 maps, two
    cores), and in bfloat16, on processors that have products of it (AMX), at 1,450 in place of 200: see
    ``nvpjax/nets/convolve.py``. But XLA cannot write what it so compiles into a cache: it is for programs that train
    for longer than they compile.

    A flag of the user's own stands. The plugins for GPUs and TPUs know the flags of their version too, and do nothing
    with them; of other versions none is known, and a flag that XLA does not know ends the program.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if flags.strip() and not flags.strip().startswith("-"):
        return  # it names a file, which XLA reads for flags
    options = {}
    match jax.__version_info__[:2]:
        case (0, 10):
            options = {BY_YNNPACK: "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE"}
        case (0, 12) if training:
            options = {BY_YNNPACK: "-individual_convolution", BY_ONEDNN: "true"}
            warnings.filterwarnings("ignore", "Error writing persistent compilation cache entry.*MemoryError")
    for flag, value in options.items():
        if flag not in flags:
            os.environ["XLA_FLAGS"] = flags = f"{flags} --{flag}={value}".strip()
