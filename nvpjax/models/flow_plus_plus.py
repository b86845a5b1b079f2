"""Flow++ for images, and its variational dequantisation."""

from __future__ import annotations

from dataclasses import dataclass

from nvpjax.bijectors.actnorm import ActNorm
from nvpjax.bijectors.coupling import Coupling
from nvpjax.bijectors.elementwise import Logit
from nvpjax.bijectors.linear import LULinear
from nvpjax.bijectors.masks import ChannelMask, Checkerboard, Mask
from nvpjax.bijectors.mixture import LogisticMixture
from nvpjax.bijectors.squeeze import Squeeze
from nvpjax.chain import Chain, Inverse
from nvpjax.flow import Flow
from nvpjax.models.model import Dtype, Model, Shape, conditioner, expect_image
from nvpjax.nets import GatedNet
from nvpjax.repeat import Repeat
from nvpjax.values import expect_at_least


@dataclass(frozen=True)
class FlowPlusPlus(Model):
    """Flow++ for images with values in [0, 1].

        logit → 4 checkerboard couplings → squeeze → 2 channel couplings → 3 checkerboard couplings
        each: actnorm → 1x1 convolution → mixture-of-logistics coupling,  masks in turns

    Shapes: events ``(height, width, channels)``, even height and width, more than 2x2; latents
    ``(batch, height/2, width/2, 4·channels)``. ``init`` wants a real batch. With ``classes``, the flow's context are
    labels ``(batch,)``, see ``LabelEmbedding``. Errors: ValueError for sizes out of range, or images that do not fit.

    In a ``PixelLikelihood`` with ``UniformDequantization`` its bits/dim are those of uniform noise; with a
    ``LearnedDequantization`` of a ``FlowPlusPlusDequantizer``, as below, those of the paper's.

    Reference: Ho, Chen, Srinivas, Duan, Abbeel, *Flow++*, 2019, sec. 3 and 4.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax import LearnedDequantization, PixelLikelihood
    >>> flow = FlowPlusPlus((1, 1, 1), features=4, blocks=1, components=2, heads=2).build((4, 4, 1))
    >>> noise = FlowPlusPlusDequantizer(features=4, blocks=1, components=2).build((4, 4, 1))
    >>> objective = PixelLikelihood(flow, dequantization=LearnedDequantization(noise))
    >>> batch = {"image": jax.random.randint(jax.random.key(0), (4, 4, 4, 1), 0, 256), "index": jnp.arange(4)}
    >>> params, state = jax.jit(objective.init)(jax.random.key(1), batch)
    >>> nats, _ = jax.jit(objective)(params, state, jax.random.key(2), batch)
    >>> nats.shape
    (4,)
    """

    couplings: tuple[int, int, int] = (4, 2, 3)
    """How many of each of the three kinds."""
    features: int = 96
    """Maps of the networks; see ``GatedNet``."""
    blocks: int = 10
    """Of the networks."""
    components: int = 32
    """Logistics of each mixture."""
    heads: int = 4
    """Of the self-attention, which must divide ``features``; 0 leaves it out."""
    alpha: float = 0.05
    """Of the logit; see ``Logit``."""
    classes: int = 0
    """Of the labels that condition the flow; 0 for none."""

    def __post_init__(self):
        object.__setattr__(self, "couplings", tuple(self.couplings))
        expect_at_least(self, 1, "couplings", "features", "components")
        expect_at_least(self, 0, "blocks", "heads", "classes")
        if len(self.couplings) != 3:
            raise ValueError(f"FlowPlusPlus: expected three numbers of couplings, got couplings={self.couplings}.")
        Logit(self.alpha)  # refuses what does not fit, as the next does
        GatedNet(self.features, self.blocks, self.heads)

    def build(
        self, event_shape: Shape, *, axis_name: str | None = None, network_dtype: Dtype = None, scan: bool | None = None
    ) -> Flow:
        expect_image(self, event_shape, 2, "Pad or crop the images.")
        if event_shape[0] * event_shape[1] < 8:
            raise ValueError(f"FlowPlusPlus: expected images larger than 2x2, got {tuple(event_shape)}.")
        gated_net = GatedNet(self.features, self.blocks, self.heads)
        network = conditioner(gated_net, classes=self.classes, dtype=network_dtype)

        def couplings(mask: Mask, times: int) -> Repeat:
            coupling = Coupling(mask, LogisticMixture(self.components), network)
            return Repeat(Chain((ActNorm(axis_name), LULinear(), coupling)), times, scan, alternate=True)

        board, half, board_again = self.couplings
        return Flow(
            Chain(
                (
                    Logit(self.alpha),
                    couplings(Checkerboard(passes="even"), board),
                    Squeeze(),
                    couplings(ChannelMask(passes="first"), half),
                    couplings(Checkerboard(passes="even"), board_again),
                )
            )
        )


@dataclass(frozen=True)
class FlowPlusPlusDequantizer(Model):
    """The density q(u | image) of the noise u in (0, 1) that dequantises an image.

        u = sigmoid(couplings(ε; image)),     ε ~ N(0, I)

    Sampling, which is what training does, runs the couplings in their fast direction. Its context is the image, scaled
    to [−1, 1), with the height and width of u; see ``nvpjax.LearnedDequantization``. Shapes: events
    ``(height, width, channels)``, two positions or more. Errors: ValueError for sizes below 1, or other events.

    Reference: Ho et al., *Flow++*, 2019, sec. 3.1, eq. 9-11.

    >>> import jax, jax.numpy as jnp
    >>> q = FlowPlusPlusDequantizer(features=4, blocks=1, components=2).build((4, 4, 1))
    >>> u, image = jnp.full((2, 4, 4, 1), 0.5), jnp.zeros((2, 4, 4, 1))
    >>> params, state = jax.jit(q.init)(jax.random.key(0), u, image)
    >>> noise, log_q = q.sample_and_log_prob(jax.random.key(1), params, state, 2, image)
    >>> noise.shape, log_q.shape
    ((2, 4, 4, 1), (2,))
    """

    layers: int = 4
    """Couplings."""
    features: int = 32
    """Maps of the networks; see ``GatedNet``."""
    blocks: int = 2
    """Of the networks."""
    components: int = 8
    """Logistics of each mixture."""

    def __post_init__(self):
        expect_at_least(self, 1, "layers", "features", "components")
        expect_at_least(self, 0, "blocks")

    def build(
        self, event_shape: Shape, *, axis_name: str | None = None, network_dtype: Dtype = None, scan: bool | None = None
    ) -> Flow:
        expect_image(self, event_shape, 1, "The batch is not part of it.")
        network = conditioner(GatedNet(self.features, self.blocks), dtype=network_dtype)
        coupling = Coupling(Checkerboard(passes="even"), LogisticMixture(self.components), network)
        couplings = Repeat(coupling, self.layers, scan, alternate=True)
        return Flow(Chain((Logit(alpha=0.0), Inverse(couplings))))
