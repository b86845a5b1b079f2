"""From whole-numbered pixels to a density and back to bits per dimension."""

from __future__ import annotations

import math
from collections.abc import Collection

import jax
import jax.numpy as jnp
import numpy as np

from nvpjax.bijector import PyTree
from nvpjax.flow import Flow


def image_keys(key: jax.Array, indices: jax.Array) -> jax.Array:
    """Give one key an image, so that its noise does not depend on what else is in the batch.

    Shapes: indices ``(batch,)``, any integers that tell the images apart; keys ``(batch,)``.
    """
    return jax.vmap(lambda index: jax.random.fold_in(key, index))(indices)


def dequantize(keys: jax.Array, images: jax.Array, levels: int = 256, dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """Spread whole-numbered pixels evenly over [0, 1).

        x = (pixel + u) / levels,     u ~ U[0, 1)

    Under it E log p(x) is a lower bound of the log-likelihood of the discrete image, after ``bits_per_dim``. The sum of
    the brightest pixel and its noise rounds up to 1 now and then (6 in a million in float32): a ``Logit`` that follows
    wants alpha > 0.

    Shapes: keys ``(batch,)`` from ``image_keys`` or ``jax.random.split``; images ``(batch, *event)`` of an integer
    dtype with values 0 … levels − 1. Errors: TypeError for images of another dtype, ValueError for
    none or for levels < 1.

    Reference: Real NVP, sec. 4.1; Theis, van den Oord, Bethge, *A note on the evaluation of generative models*, 2016,
    sec. 3.1.

    >>> import jax, jax.numpy as jnp
    >>> x = dequantize(jax.random.split(jax.random.key(0), 1), jnp.array([[0, 255]], jnp.uint8))
    >>> bool(x[0, 0] < 1 / 256), bool(255 / 256 <= x[0, 1] < 1)
    (True, True)
    """
    _check_pixels("dequantize", images, levels)
    noise = jax.vmap(lambda key: jax.random.uniform(key, images.shape[1:], dtype))(keys)
    # The noise stays below 1, but its sum with a large pixel can round up to the next whole number.
    return (images.astype(dtype) + noise) / levels


def variational_dequantize(
    keys: jax.Array, images: jax.Array, dequantizer: Flow, params: PyTree, state: PyTree, levels: int = 256
) -> tuple[jax.Array, jax.Array]:
    """Spread whole-numbered pixels over [0, 1) by noise that a flow learns: ``(x, log q(u | image))``.

        u ~ q(u | image),     x = (pixel + u) / levels
        log P(image) ≥ E[log p(x) − log q(u | image)] − D·log levels,  so ``bits_per_dim(log p(x) − log q)``

    Args: ``dequantizer``: a flow over u in (0, 1)^D whose context is the image scaled to [−1, 1), such as
    ``nvpjax.models.flow_plus_plus_dequantizer``. Shapes: keys ``(batch,)``, as of ``dequantize``; images
    ``(batch, *event)`` of an integer dtype; log q in nats ``(batch,)``. Errors: TypeError for images of another dtype.

    Reference: Ho et al., *Flow++*, 2019, sec. 3.1, eq. 9-11.
    """
    _check_pixels("variational_dequantize", images, levels)

    def one(key, image):
        pixels = image[None].astype(jnp.float32)
        context = 2 * pixels / levels - 1
        u, log_q = dequantizer.sample_and_log_prob(key, params, state, pixels.shape, context)
        return (pixels[0] + u[0]) / levels, log_q[0]

    return jax.vmap(one)(keys, images)


def bits_per_dim(log_prob: jax.Array, dimensions: int, levels: int = 256) -> jax.Array:
    """Turn a log-density over [0, 1] into bits per dimension of the discrete data.

        bits/dim = log₂ levels − log p(x) / (D·ln 2) = −(log p(x) − D·ln levels) / (D·ln 2)

    A uniform density (log p = 0) gives exactly log₂ levels: 8 for bytes.

    Args: ``log_prob`` in nats, ``dimensions`` D = height·width·channels. Errors: ValueError for D < 1 or levels < 1.

    Reference: Real NVP, sec. 4.1.

    >>> float(bits_per_dim(0.0, 3072))
    8.0
    """
    if dimensions < 1 or levels < 1:
        raise ValueError(f"bits_per_dim: expected dimensions and levels >= 1, got {dimensions} and {levels}.")
    return math.log2(levels) - log_prob / (dimensions * math.log(2))


def importance_weighted(bits: np.ndarray, dimensions: int) -> np.ndarray:
    """Put k draws of noise an image together to one number, nearer to −log₂ P(image) / D than their mean.

        P(image) = E_u[p(image + u)]  ≥  exp E_u[log p(image + u)]
        bits/dim = −log₂ (1/k Σᵢ 2^(−D·bitsᵢ)) / D

    Its expectation falls with k, towards the exact number; with k = 1 it is the bound of uniform dequantisation.

    Args: ``bits``: bits/dim of the draws, ``(draws, images)``; ``dimensions`` D. Computed in float64 on the host: the
    exponents are in the thousands. Result ``(images,)``.

    Reference: Burda, Grosse, Salakhutdinov, *Importance weighted autoencoders*, 2016, eq. 8, with u as the latent.

    >>> importance_weighted(np.array([[1.0], [1.0]]), dimensions=784).tolist()
    [1.0]
    """
    log_weights = -np.asarray(bits, np.float64) * dimensions * math.log(2)
    largest = log_weights.max(axis=0)
    log_mean = largest + np.log(np.mean(np.exp(log_weights - largest), axis=0))
    return -log_mean / (dimensions * math.log(2))


def sum_of_squares(params: PyTree, names: Collection[str]) -> jax.Array:
    """Sum the squares of all parameters whose own name (the last key of their path) is among ``names``.

    The authors' program adds 5e-5 times this to its loss, over weight-norm magnitudes and coupling scales: with this
    library's modules, ``names=("scale",)``.

    >>> import jax.numpy as jnp
    >>> float(sum_of_squares({"conv": {"kernel": jnp.ones(3), "scale": 2 * jnp.ones(2)}}, ("scale",)))
    8.0
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    chosen = [leaf for path, leaf in leaves if getattr(path[-1], "key", None) in names]
    return sum((jnp.sum(jnp.square(leaf)) for leaf in chosen), start=jnp.float32(0))


def _check_pixels(name: str, images: jax.Array, levels: int):
    if not jnp.issubdtype(images.dtype, jnp.integer):
        raise TypeError(f"{name}: expected whole pixels of an integer dtype, got {images.dtype}.")
    if images.ndim < 2 or images.shape[0] < 1:
        raise ValueError(f"{name}: expected at least one image, (batch, *event), got shape {images.shape}.")
    if levels < 1:
        raise ValueError(f"{name}: expected levels >= 1, got {levels}.")
