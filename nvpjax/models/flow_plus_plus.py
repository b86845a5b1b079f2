"""Flow++ for images, and its variational dequantisation."""

from __future__ import annotations

from nvpjax.bijectors.actnorm import ActNorm
from nvpjax.bijectors.coupling import Coupling
from nvpjax.bijectors.elementwise import Logit
from nvpjax.bijectors.linear import LULinear
from nvpjax.bijectors.masks import ChannelMask, Checkerboard, Mask
from nvpjax.bijectors.mixture import LogisticMixture
from nvpjax.bijectors.squeeze import Squeeze
from nvpjax.chain import Chain, Inverse
from nvpjax.flow import Flow
from nvpjax.nets import FlaxConditioner, GatedNet


def flow_plus_plus(
    channels: int,
    *,
    couplings: tuple[int, int, int] = (4, 2, 3),
    features: int = 96,
    blocks: int = 10,
    components: int = 32,
    heads: int = 4,
    alpha: float = 0.05,
    axis_name: str | None = None,
) -> Flow:
    """Flow++ for images with values in [0, 1].

        logit → 4 checkerboard couplings → squeeze → 2 channel couplings → 3 checkerboard couplings
        each: actnorm → 1x1 convolution → mixture-of-logistics coupling

    Args:
        channels: of the images.
        couplings: how many of each of the three kinds.
        features, blocks, heads: of the networks; see ``GatedNet``.
        components: logistics of each mixture.
        alpha: of the logit; see ``Logit``.
        axis_name: the pmap axis for actnorm's measurement in ``init``; see ``ActNorm``.

    Shapes: x ``(batch, height, width, channels)``, even height and width. ``init`` wants a real batch.

    With ``nvpjax.dequantize`` its bits/dim are those of uniform dequantisation; with ``variational_dequantize`` and a
    ``flow_plus_plus_dequantizer``, those of the variational one, as below.

    Reference: Ho, Chen, Srinivas, Duan, Abbeel, *Flow++*, 2019, sec. 3 and 4.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax import bits_per_dim, dequantize, variational_dequantize
    >>> images = jax.random.randint(jax.random.key(0), (4, 4, 4, 1), 0, 256).astype(jnp.uint8)
    >>> keys = jax.random.split(jax.random.key(1), 4)
    >>> flow = flow_plus_plus(1, couplings=(1, 1, 1), features=4, blocks=1, components=2, heads=2)
    >>> dequantizer = flow_plus_plus_dequantizer(1, features=4, blocks=1, components=2)
    >>> x = dequantize(keys, images)
    >>> params, state = jax.jit(flow.init)(jax.random.key(2), x)
    >>> log_p, _ = jax.jit(flow.log_prob)(params, state, x)
    >>> bits_per_dim(log_p, 16).shape
    (4,)
    >>> noise, context = jnp.full(x.shape, 0.5), jnp.zeros(x.shape)
    >>> noise_params, noise_state = jax.jit(dequantizer.init)(jax.random.key(3), noise, context)
    >>> variational = jax.jit(variational_dequantize, static_argnums=2)
    >>> x, log_q = variational(keys, images, dequantizer, noise_params, noise_state)
    >>> log_p, _ = jax.jit(flow.log_prob)(params, state, x)
    >>> bits_per_dim(log_p - log_q, 16).shape
    (4,)
    """

    def layer(mask: Mask, changed: int) -> Chain:
        transform = LogisticMixture(components)
        network = GatedNet(features, blocks, outputs=transform.parameters_per_element * changed, heads=heads)
        return Chain((ActNorm(axis_name), LULinear(), Coupling(mask, transform, FlaxConditioner(network))))

    def layers(mask: Mask, number: int, changed: int) -> list[Chain]:
        return [layer(mask if position % 2 == 0 else mask.complement(), changed) for position in range(number)]

    board, half = Checkerboard(passes="even"), ChannelMask(passes="first")
    return Flow(
        Chain(
            (
                Logit(alpha),
                *layers(board, couplings[0], channels),
                Squeeze(),
                *layers(half, couplings[1], 2 * channels),
                *layers(board, couplings[2], 4 * channels),
            )
        )
    )


def flow_plus_plus_dequantizer(
    channels: int, *, layers: int = 4, features: int = 32, blocks: int = 2, components: int = 8
) -> Flow:
    """The density q(u | image) of the noise u in (0, 1) that dequantises an image.

        u = sigmoid(couplings(ε; image)),     ε ~ N(0, I)

    Sampling, which is what training does, runs the couplings in their fast direction. Its context is the image, scaled
    to [−1, 1), with the height and width of u; see ``nvpjax.variational_dequantize``.

    Reference: Ho et al., *Flow++*, 2019, sec. 3.1, eq. 9-11.

    >>> import jax, jax.numpy as jnp
    >>> q = flow_plus_plus_dequantizer(1, features=4, blocks=1, components=2)
    >>> u, image = jnp.full((2, 4, 4, 1), 0.5), jnp.zeros((2, 4, 4, 1))
    >>> params, state = jax.jit(q.init)(jax.random.key(0), u, image)
    >>> noise, log_q = q.sample_and_log_prob(jax.random.key(1), params, state, u.shape, image)
    >>> noise.shape, log_q.shape
    ((2, 4, 4, 1), (2,))
    """
    transform = LogisticMixture(components)
    network = GatedNet(features, blocks, outputs=transform.parameters_per_element * channels)
    board = Checkerboard(passes="even")
    masks = [board if layer % 2 == 0 else board.complement() for layer in range(layers)]
    couplings = Chain(Coupling(mask, transform, FlaxConditioner(network)) for mask in masks)
    return Flow(Chain((Logit(alpha=0.0), Inverse(couplings))))
