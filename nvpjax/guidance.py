"""Guidance: autoregressive layers that go further in the direction in which a label takes them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp

from nvpjax.bijector import Bijector
from nvpjax.bijectors.autoregressive import Autoregressive
from nvpjax.bijectors.bounds import NoBound
from nvpjax.bijectors.transforms import Affine
from nvpjax.combinator import with_leaves
from nvpjax.flow import Flow
from nvpjax.values import expect_choice, expect_finite


@dataclass(frozen=True)
class Guided:
    """A conditioner that is asked twice, with the label and without, and answers beyond the first.

        θ_c = network(x, label),     θ_u = network(x, −1), or with attention at another temperature
        "difference":  θ = θ_c + w (θ_c − θ_u)
        "product":     N(m, σ²) ∝ N(m_c, σ_c²)^(1+w) / N(m_u, σ_u²)^w,  where σ_u counts as σ_c if it is smaller

    Weight 0 is the network itself. It makes another flow, exact as any: of samples that are sharper and differ less.
    The product is of the normals that an ``Affine(NoBound())`` makes of N(0, 1): θ = (−m, −log σ).

    Shapes: x ``(batch, positions, channels)``, labels ``(batch,)``, θ ``(batch, positions, outputs)``.
    Params are the network's own, which is one that learned without labels too (``unknown_labels`` of the objective),
    or, where ``temperature`` is given, one of any kind: then θ_u is what it says with attention's logits divided by it.

    Args: ``network``: a ``CausalTransformer`` or ``NestedTransformer``. ``weight``: w. ``form``: "difference" or
    "product". ``temperature``: see above; without it the network has ``classes``. ``ramp``: position i has weight
    w·i/(positions − 1).

    Errors: ValueError for a weight below 0, another form, or a network without classes where no temperature is given.

    Reference: the difference, temperature and ramp: Zhai et al., *Normalizing flows are capable generative models*
    (TarFlow), 2024, sec. 3.5, and its program; the product: Gu et al., *STARFlow*, 2025.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax.nets import CausalTransformer
    >>> network = CausalTransformer(width=8, depth=1, head_width=4, classes=3, final_scale=1.0)
    >>> x, labels = jnp.ones((2, 5, 1)), jnp.array([0, 2])
    >>> params, state = network.init(jax.random.key(0), x, labels, outputs=2)
    >>> Guided(network, weight=2.0).apply(params, state, x, labels, outputs=2)[0].shape
    (2, 5, 2)
    """

    network: Any
    weight: float
    form: Literal["difference", "product"] = "difference"
    temperature: float | None = None
    ramp: bool = False

    stepwise = True

    def __post_init__(self):
        expect_finite(self)
        expect_choice(self, "form", ("difference", "product"))
        if self.weight < 0:
            raise ValueError(f"Guided: expected a weight of at least 0, got {self.weight}.")
        if self.temperature is None and not getattr(self.network, "classes", 0):
            raise ValueError(
                f"Guided: expected a network of classes, got {self.network!r}. One without is guided by another "
                "temperature of its attention (temperature=1.5)."
            )
        if self.temperature is not None and not hasattr(self.network, "temperature"):
            raise ValueError(
                f"Guided: expected a transformer, whose attention has a temperature, got {self.network!r}."
            )

        if self.temperature is not None:
            replace(self.network, temperature=self.temperature)  # refuses what is no temperature

    def init(self, key: jax.Array, x: jax.Array, context: Any = None, *, outputs: int) -> tuple[Any, Any]:
        return self.network.init(key, x, context, outputs=outputs)

    def apply(
        self, params: Any, state: Any, x: jax.Array, context: Any = None, *, outputs: int, train: bool = False
    ) -> tuple[jax.Array, Any]:
        other, no_context = self._other(context)
        told, state = self.network.apply(params, state, x, context, outputs=outputs, train=train)
        untold, _ = other.apply(params, state, x, no_context, outputs=outputs, train=train)
        return self._beyond(told, untold, jnp.arange(x.shape[1])[:, None], x.shape[1]), state

    def begin(self, params: Any, x: jax.Array, context: Any = None, *, outputs: int) -> tuple[jax.Array, Any]:
        """As of ``CausalTransformer``, with two caches."""
        other, no_context = self._other(context)
        told, cache = self.network.begin(params, x, context, outputs=outputs)
        untold, of_other = other.begin(params, x, no_context, outputs=outputs)
        positions = jnp.int32(x.shape[1])
        return self._beyond(told, untold, 0, positions), (cache, of_other, positions)

    def step(
        self, params: Any, cache: Any, position: jax.Array, entry: jax.Array, context: Any = None, *, outputs: int
    ) -> tuple[jax.Array, Any]:
        (cache, of_other, positions), (other, no_context) = cache, self._other(context)
        told, cache = self.network.step(params, cache, position, entry, context, outputs=outputs)
        untold, of_other = other.step(params, of_other, position, entry, no_context, outputs=outputs)
        return self._beyond(told, untold, position + 1, positions), (cache, of_other, positions)

    def _other(self, context):
        if self.temperature is None:
            return self.network, jnp.full_like(context, -1, dtype=jnp.int32)
        return replace(self.network, temperature=self.temperature), context

    def _beyond(self, told, untold, position, positions):
        w = jnp.asarray(self.weight, told.dtype)
        if self.ramp:
            w = w * (position / jnp.maximum(positions - 1, 1)).astype(told.dtype)
        if self.form == "difference":
            return told + w * (told - untold)
        (shift, log_scale), (other_shift, other_log_scale) = jnp.split(told, 2, -1), jnp.split(untold, 2, -1)
        ratio = jnp.exp(2 * jnp.minimum(other_log_scale - log_scale, 0))  # (σ_c / σ_u)², at most 1
        total = 1 + w - w * ratio
        shift = ((1 + w) * shift - w * ratio * other_shift) / total
        return jnp.concatenate([shift, log_scale + jnp.log(total) / 2], axis=-1)


def guided(
    flow: Flow,
    weight: float,
    *,
    form: Literal["difference", "product"] = "difference",
    temperature: float | None = None,
    ramp: bool = False,
) -> Flow:
    """The flow with every transformer of its autoregressive layers ``Guided``: another flow, of the same params.

    Args: as of ``Guided``. Errors: ValueError where the flow has no such layer, for a product where layers are
    not ``Affine(NoBound())``, and for what ``Guided`` refuses.

    Reference: see ``Guided``.

    >>> import jax, jax.numpy as jnp
    >>> from nvpjax import TarFlow
    >>> flow = TarFlow(patch=2, width=8, layers=2, depth=1, head_width=4, classes=3).build((4, 4, 1))
    >>> labels = jnp.array([0, 2])
    >>> params, state = flow.init(jax.random.key(0), jnp.zeros((2, 4, 4, 1)), labels)
    >>> guided(flow, 1.5).at(params, state).sample(jax.random.key(1), 2, labels).shape
    (2, 4, 4, 1)
    """

    def of_leaf(bijector: Bijector) -> Bijector:
        if not isinstance(bijector, Autoregressive) or not getattr(bijector.conditioner, "stepwise", False):
            return bijector
        if form == "product" and bijector.transform != Affine(NoBound()):
            raise ValueError(
                f"guided: expected layers of Affine(NoBound()) for a product, got {bijector.transform!r}. A difference "
                "goes with any."
            )
        network = Guided(bijector.conditioner, weight, form, temperature, ramp)
        return replace(bijector, conditioner=network)

    result = with_leaves(of_leaf, flow.bijector)
    if result == flow.bijector:
        raise ValueError(
            "guided: expected autoregressive layers told by a CausalTransformer, as TarFlow has, got "
            f"{flow.bijector!r}."
        )
    return replace(flow, bijector=result)
