"""Autoregressive flows for vectors: MAF and IAF."""

from __future__ import annotations

from nvpjax.bijectors.autoregressive import Autoregressive
from nvpjax.bijectors.permutation import Reverse
from nvpjax.bijectors.transforms import Affine, Transform
from nvpjax.chain import Chain, Inverse
from nvpjax.flow import Flow
from nvpjax.nets import MADE, FlaxConditioner
from nvpjax.repeat import Repeat


def maf(*, layers: int = 5, hidden: tuple[int, ...] = (512, 512), transform: Transform = Affine()) -> Flow:  # noqa: B008
    """Masked autoregressive flow: densities in one pass, samples entry by entry.

        (autoregressive layer → reverse) x layers

    Args: ``layers``; ``hidden``: widths of each MADE; ``transform``: of each entry, ``Affine()`` or
    ``RationalQuadraticSpline()``. Shapes: x and latents ``(batch, entries)``, at least 2 entries.

    Reference: Papamakarios, Pavlakou, Murray, *Masked autoregressive flow*, 2017, sec. 3. (There with batch
    normalisation between layers: put ``BatchNorm()`` into a chain of your own for it.)

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax import RationalQuadraticSpline
    >>> flow = maf(layers=2, hidden=(16,), transform=RationalQuadraticSpline(bins=4))
    >>> params, state = flow.init(jax.random.key(0), jnp.zeros((2, 3)))
    >>> flow.log_prob(params, state, jnp.zeros((2, 3)))[0].shape
    (2,)
    """
    return Flow(_layers(layers, hidden, transform))


def iaf(*, layers: int = 5, hidden: tuple[int, ...] = (512, 512), transform: Transform = Affine()) -> Flow:  # noqa: B008
    """Inverse autoregressive flow: samples with their densities in one pass, densities of given data entry by entry.

        the inverse of (autoregressive layer → reverse) x layers

    Args, shapes: as of ``maf``. For variational inference: ``flow.sample_and_log_prob`` is the fast direction.

    Reference: Kingma et al., *Improved variational inference with inverse autoregressive flow*, 2016, sec. 3.

    >>> import jax, jax.numpy as jnp
    >>> flow = iaf(layers=2, hidden=(16,))
    >>> params, state = flow.init(jax.random.key(0), jnp.zeros((2, 3)))
    >>> x, log_prob = flow.sample_and_log_prob(jax.random.key(1), params, state, (5, 3))
    >>> x.shape, log_prob.shape
    ((5, 3), (5,))
    """
    return Flow(Inverse(_layers(layers, hidden, transform)))


def _layers(layers, hidden, transform) -> Repeat:
    network = FlaxConditioner(MADE(hidden, outputs_per_input=transform.parameters_per_element))
    return Repeat(Chain((Autoregressive(transform, network), Reverse())), layers)
