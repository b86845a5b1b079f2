"""From whole-numbered pixels to numbers that have a density: noise that fills the steps between them."""

from __future__ import annotations

import abc
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from nvpjax.bijector import PyTree
from nvpjax.checked import unchecked
from nvpjax.flow import Flow
from nvpjax.places import is_measured

NOISE_STEP = 2**-7
"""Of the noise between two pixels: the coarsest that it may be rounded to."""


def example_keys(key: jax.Array, indices: jax.Array) -> jax.Array:
    """Give one key an example, so that its noise does not depend on what else is in the batch.

    Shapes: indices ``(batch,)``, any integers that tell the examples apart; keys ``(batch,)``.
    """
    return jax.vmap(lambda index: jax.random.fold_in(key, index))(indices)


class Dequantization(abc.ABC):
    """How noise spreads whole pixels over [0, 1]: a frozen value, as bijectors are.

        x = (pixel + u) / levels,     u ~ q(u | image)

    ``is_bound``: whether E[log q(u | image) − log p(x)] + D·log levels is an upper bound of −log P(image).
    """

    is_bound = True

    def init(self, key: jax.Array, images: jax.Array, levels: int) -> tuple[PyTree, PyTree]:
        """Give ``(params, state)`` of what is learned along; the default is noise without any."""
        return (), ()

    @abc.abstractmethod
    def spread(
        self, params: PyTree, state: PyTree, keys: jax.Array, images: jax.Array, levels: int
    ) -> tuple[jax.Array, jax.Array]:
        """Give ``(x, log q(u | image))``: x shaped like images, log q in nats, ``(batch,)``.

        Shapes: keys ``(batch,)``, one an image, from ``example_keys`` or ``jax.random.split``; images
        ``(batch, *event)`` of an integer dtype with values 0 … levels − 1.

        Errors: TypeError for images of another dtype; ValueError for none, for keys that are not one an image, for
        levels < 1 or so many that a pixel leaves no digits to the noise, and for pixels outside the range. Inside
        compiled code, where no error can be raised, those give NaN.
        """


@dataclass(frozen=True)
class UniformDequantization(Dequantization):
    """Evenly spread noise:  x = (pixel + u) / levels,  u ~ U[0, 1),  log q = 0.

    The sum of the brightest pixel and its noise rounds up to 1 now and then (6 in a million in float32): a ``Logit``
    that follows wants alpha > 0.

    Reference: Real NVP, sec. 4.1; Theis, van den Oord, Bethge, *A note on the evaluation of generative models*, 2016,
    sec. 3.1.

    >>> import jax, jax.numpy as jnp
    >>> image = jnp.array([[0, 255]], jnp.uint8)
    >>> x, _ = UniformDequantization().spread((), (), jax.random.split(jax.random.key(0), 1), image, 256)
    >>> bool(x[0, 0] < 1 / 256), bool(255 / 256 <= x[0, 1] <= 1)
    (True, True)
    """

    def spread(
        self, params: PyTree, state: PyTree, keys: jax.Array, images: jax.Array, levels: int
    ) -> tuple[jax.Array, jax.Array]:
        _check_pixels(self, images, levels, keys)
        u = jax.vmap(lambda key: jax.random.uniform(key, images.shape[1:]))(keys)
        # The noise stays below 1, but its sum with a large pixel can round up to the next whole number.
        return _in_steps(self, images, u, levels), jnp.zeros(len(images), u.dtype)


@dataclass(frozen=True)
class LearnedDequantization(Dequantization):
    """Noise that a flow learns, trained along with the density (variational dequantisation).

        u ~ q(u | image),     x = (pixel + u) / levels
        log P(image) ≥ E[log p(x) − log q(u | image)] − D·log levels

    Args: ``flow``: over u in (0, 1)^D, whose context is the image scaled to [−1, 1), such as
    ``nvpjax.FlowPlusPlusDequantizer`` builds; it must measure nothing, since it is only ever sampled from. Errors:
    ValueError where its state holds measured numbers.

    Reference: Ho et al., *Flow++*, 2019, sec. 3.1, eq. 9-11.
    """

    flow: Flow

    def init(self, key: jax.Array, images: jax.Array, levels: int) -> tuple[PyTree, PyTree]:
        _check_pixels(self, images, levels)
        noise = jnp.full(images.shape, 0.5)
        with unchecked():  # noise may be the same for all images: a flow that does not read its context serves
            params, state = self.flow.init(key, noise, _as_context(images, levels))
        if is_measured(state):
            raise ValueError(
                "LearnedDequantization: expected a flow that measures nothing (no BatchNorm, also in its networks), "
                f"since it is sampled from while it is trained; got state {jax.tree.map(jnp.shape, state)}."
            )
        return params, state

    def spread(
        self, params: PyTree, state: PyTree, keys: jax.Array, images: jax.Array, levels: int
    ) -> tuple[jax.Array, jax.Array]:
        _check_pixels(self, images, levels, keys)
        context = _as_context(images, levels)
        z = self.flow.latents_by_keys(keys, params, state, context, event_shape=images.shape[1:])
        u, log_q = self.flow.from_latents(params, state, z, context)
        return _in_steps(self, images, u, levels), log_q


@dataclass(frozen=True)
class GaussianDequantization(Dequantization):
    """Normal noise around the middle of each step:  x = (pixel + ½) / levels + σ·ε,  ε ~ N(0, 1),  log q = 0.

    What is then learned is the density of noisy images, which samples well after denoising. It says nothing about
    whole-numbered pixels, so what comes out is no bound on −log P(image), and bits/dim do not compare with others'.

    Args: ``deviation``: σ, where the range of the pixels is 1. Errors: ValueError unless it is above 0.

    Reference: Zhai et al., *Normalizing flows are capable generative models* (TarFlow), 2024, sec. 3.3, where pixels
    range over 2, so that its σ is twice this one.

    >>> import jax, jax.numpy as jnp
    >>> noise, image = GaussianDequantization(0.05), jnp.zeros((1, 4), jnp.uint8)
    >>> noise.spread((), (), jax.random.split(jax.random.key(0), 1), image, 256)[0].shape, noise.is_bound
    ((1, 4), False)
    """

    deviation: float
    is_bound = False

    def __post_init__(self):
        if not 0 < self.deviation < float("inf"):
            raise ValueError(f"GaussianDequantization: expected deviation > 0, got {self.deviation}.")

    def spread(
        self, params: PyTree, state: PyTree, keys: jax.Array, images: jax.Array, levels: int
    ) -> tuple[jax.Array, jax.Array]:
        _check_pixels(self, images, levels, keys)
        noise = jax.vmap(lambda key: jax.random.normal(key, images.shape[1:]))(keys)
        middles = _in_steps(self, images, jnp.full(images.shape, 0.5, noise.dtype), levels)
        return middles + self.deviation * noise, jnp.zeros(len(images), noise.dtype)


def _as_context(images: jax.Array, levels: int) -> jax.Array:
    return 2 * images.astype(jnp.float32) / levels - 1


def _in_steps(dequantization: Dequantization, images: jax.Array, u: jax.Array, levels: int) -> jax.Array:
    """(pixel + u) / levels, for pixels that are 0 … levels − 1."""
    name = type(dequantization).__name__
    if levels * float(jnp.finfo(u.dtype).eps) > NOISE_STEP:
        raise ValueError(f"{name}: expected noise of a dtype that keeps it beside {levels} levels, got {u.dtype}.")
    x = (images.astype(u.dtype) + u) / levels
    limits = jnp.iinfo(images.dtype)
    if limits.min >= 0 and limits.max < levels:
        return x
    inside = (images >= 0) & (images < levels)
    if not isinstance(images, Tracer):
        low, high = np.min(np.asarray(images)), np.max(np.asarray(images))
        if low < 0 or high >= levels:
            raise ValueError(
                f"{name}: expected pixels 0 to {levels - 1}, got {low} to {high}: set levels, or bring the images into "
                "the range."
            )
    return jnp.where(inside, x, jnp.nan)


def _check_pixels(
    dequantization: Dequantization, images: jax.Array, levels: int, keys: jax.Array | None = None
) -> None:
    name = type(dequantization).__name__
    if not jnp.issubdtype(images.dtype, jnp.integer):
        raise TypeError(f"{name}: expected whole pixels of an integer dtype, got {images.dtype}.")
    if images.ndim < 2 or images.shape[0] < 1:
        raise ValueError(f"{name}: expected at least one image, (batch, *event), got shape {images.shape}.")
    if levels < 1:
        raise ValueError(f"{name}: expected levels >= 1, got {levels}.")
    if keys is not None and keys.shape[:1] != images.shape[:1]:
        raise ValueError(
            f"{name}: expected a key for each of {len(images)} images, got keys of shape {keys.shape}: "
            "jax.random.split(key, number) or example_keys(key, indices) gives them."
        )
