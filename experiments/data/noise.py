"""The noise that spreads whole pixels, as values of a config: each builds a ``nvpjax.Dequantization``."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any

from nvpjax import GaussianDequantization, LearnedDequantization, UniformDequantization
from nvpjax.dequantization import Dequantization
from nvpjax.models import FlowPlusPlusDequantizer, GlowDequantizer


class Noise(abc.ABC):
    """Of one kind; the classes below are the kinds."""

    @abc.abstractmethod
    def build(self, event_shape: tuple[int, ...], network_dtype: Any = None) -> Dequantization:
        """Give the noise for images of this shape. Sizes that do not fit raise ValueError."""


@dataclass(frozen=True)
class Uniform(Noise):
    """Evenly spread noise."""

    def build(self, event_shape, network_dtype=None):
        return UniformDequantization()


@dataclass(frozen=True)
class Learned(Noise):
    """Noise that a flow learns along: a tighter bound."""

    noise_layers: int = 4
    """Couplings of that flow."""
    noise_features: int = 32
    """Feature maps of their networks."""
    noise_blocks: int = 2
    """Blocks of their networks."""
    noise_components: int = 8
    """Logistics of their mixtures."""

    def build(self, event_shape, network_dtype=None):
        model = FlowPlusPlusDequantizer(
            self.noise_layers, self.noise_features, self.noise_blocks, self.noise_components
        )
        return LearnedDequantization(model.build(event_shape, network_dtype=network_dtype))


@dataclass(frozen=True)
class LearnedAffine(Noise):
    """Noise that a flow of affine couplings learns along, at half the resolution: a tighter bound that costs less."""

    noise_depth: int = 4
    """Steps of that flow."""
    noise_features: int = 64
    """Feature maps of their networks."""

    def build(self, event_shape, network_dtype=None):
        model = GlowDequantizer(self.noise_depth, self.noise_features)
        return LearnedDequantization(model.build(event_shape, network_dtype=network_dtype))


@dataclass(frozen=True)
class Gaussian(Noise):
    """Normal noise: for samples that are denoised; its numbers are no bound."""

    noise_deviation: float = 0.05
    """Its standard deviation, where the range of the pixels is 1."""

    def build(self, event_shape, network_dtype=None):
        return GaussianDequantization(self.noise_deviation)


NOISES = {"uniform": Uniform, "learned": Learned, "learned_affine": LearnedAffine, "gaussian": Gaussian}
"""What --noise takes."""
