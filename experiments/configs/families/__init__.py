"""Families of flows that ``experiments.search`` compares in equal time, at a size that a CPU core trains."""

from __future__ import annotations

from dataclasses import dataclass, replace

from experiments.data.noise import LearnedAffine, Noise, Uniform
from nvpjax.models import FlowPlusPlus, Glow, Jet, Model, RealNVP, TarFlow


@dataclass(frozen=True)
class Family:
    """A model, and what it is trained with."""

    model: Model
    milliseconds: float
    """Of a step on one core of two (AMD EPYC: AVX-512 with products of bfloat16, no AMX) while the other has a step of
    another family; JAX 0.12, medians of 20; of the transformers means of some hundred steps in training."""
    batch_size: int = 32
    precision: str = "bfloat16"
    """Of the networks."""
    noise: Noise = Uniform()
    average_decay: float = 0.0
    learning_rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)


GLOW = Glow(levels=3, depth=8, features=128)
LEARNED_NOISE = Family(
    GLOW, 329, batch_size=64, noise=LearnedAffine(4, 64), average_decay=0.999, learning_rates=(1e-2,)
)

TARFLOW = Family(
    TarFlow(4, 128, layers=2, depth=3, components=4, inside=(256, 256)),
    291,
    batch_size=16,
    precision="float32",  # products of bfloat16 are the slower ones in them here
    learning_rates=(1e-3, 3e-3),
)

FAMILIES = {
    "glow": Family(GLOW, 283, batch_size=64),
    "real_nvp": Family(RealNVP(scales=2, features=32, blocks=2), 438),
    "mixtures": Family(replace(GLOW, components=4), 518),
    "flow_plus_plus": Family(FlowPlusPlus((2, 2, 2), features=64, blocks=2, components=4, heads=0), 990),
    "learned_noise": LEARNED_NOISE,
    "without_priors": replace(LEARNED_NOISE, model=replace(GLOW, learned_prior=False), milliseconds=279),
    "tarflow": TARFLOW,
    "jet": replace(TARFLOW, model=Jet(4, 128, couplings=10, depth=1), milliseconds=390),
}
"""By name; ``real_nvp`` is the published one scaled down, and nothing else. The two with learned noise say what it and
learned priors bring to a Glow, and what averages of the parameters do (evaluate --no-averages); ``mixtures`` beside
``glow`` says what mixtures do."""
