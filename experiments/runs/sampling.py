"""How a run is sampled, beside temperature: guidance, and taking noise away."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from experiments.config import Config
from experiments.data.noise import Gaussian
from experiments.errors import UserError
from nvpjax import Flow, guided


@dataclass(frozen=True)
class Sampling:
    """Options of ``sample``; see ``nvpjax.guided`` and ``nvpjax.denoised``."""

    guidance: float = 0.0
    """How far samples go beyond what their label says, for a tarflow; 0 not at all. One that was trained without some
    of the labels (--unknown-labels) is compared with itself not knowing the label, any with --guidance-temperature."""
    guidance_form: Literal["difference", "product"] = "difference"
    """Of the shifts and log-scales, as of TarFlow; or of the normals that they mean, as of STARFlow."""
    guidance_temperature: float | None = None
    """Compare with the model whose attention has this temperature, such as 1.5, in place of one without the label."""
    guidance_ramp: bool = False
    """Let guidance grow from 0 at the first position of a sequence to its weight at the last."""
    denoise: bool = False
    """Take away the noise that the model was trained with (--noise gaussian): one step along the gradient of log p."""

    def check(self, config: Config) -> None:
        """Raise UserError for what a run cannot be sampled by."""
        if not 0 <= self.guidance < math.inf:
            raise UserError(f"expected --guidance >= 0, got {self.guidance}")
        if not self.guidance and self != Sampling(denoise=self.denoise):
            raise UserError("--guidance-form, --guidance-temperature and --guidance-ramp: expected --guidance above 0")
        if self.guidance:
            try:
                self.flow(config.model.build(config.data.event_shape))
            except ValueError as error:
                raise UserError(f"--guidance {self.guidance:g}: {error}") from None
            if self.guidance_temperature is None and not config.training.unknown_labels:
                raise UserError(
                    f"--guidance {self.guidance:g}: {config.name} was trained with every label (--unknown-labels 0), "
                    "and knows no images without: give --guidance-temperature 1.5"
                )
        if self.denoise and not isinstance(getattr(config.data, "noise", None), Gaussian):
            raise UserError(f"--denoise: {config.name} was not trained with --noise gaussian")

    def flow(self, flow: Flow) -> Flow:
        """The flow that samples are drawn from."""
        if not self.guidance:
            return flow
        how = {"form": self.guidance_form, "temperature": self.guidance_temperature, "ramp": self.guidance_ramp}
        return guided(flow, self.guidance, **how)

    def deviation(self, config: Config) -> float:
        """Of the noise that is taken away; 0 where none is."""
        return config.data.noise.noise_deviation if self.denoise else 0.0

    @property
    def said(self) -> str:
        """Of the samples, for people."""
        return (f", guided by {self.guidance:g}" if self.guidance else "") + (", denoised" if self.denoise else "")
