"""Neural spline flow on tori, and on angles beside numbers of the line."""

from __future__ import annotations

from dataclasses import dataclass

from nvpjax.bijectors.circular_spline import CircularSpline
from nvpjax.bijectors.coupling import Coupling
from nvpjax.bijectors.in_turn import InTurn
from nvpjax.bijectors.masks import BooleanMask
from nvpjax.bijectors.spline import RationalQuadraticSpline
from nvpjax.bijectors.transforms import Additive
from nvpjax.bijectors.wrap import Wrap
from nvpjax.chain import Chain
from nvpjax.distributions import ByColumns, StandardNormal, UniformCircle
from nvpjax.flow import Flow
from nvpjax.models.model import Dtype, Model, Shape, conditioner, expect_vector
from nvpjax.nets import MLP, OfAngles
from nvpjax.parts import OnColumns
from nvpjax.repeat import Repeat
from nvpjax.values import expect_at_least, whole_numbers


@dataclass(frozen=True)
class CircularSplineCoupling(Model):
    """A flow of vectors of which some entries are angles, in radians: on a torus where all of them are.

        (couplings by halves: which half, one bit of the entries' numbers after the other, and the other half) x passes
        of angles: a circular spline, then a turn;  of other entries: a rational-quadratic spline
        base: uniform on the circle for angles, a standard normal for the others

    Networks see an angle as its cosine and sine, so the density has no seam at π. Samples of angles lie between −π and
    π, or a rounding beside. Bring what are no angles to about unit scale first.

    Shapes: events ``(entries,)``; latents the same, angles as any of their numbers. Of a single entry nothing passes,
    and the context alone says how it changes.

    Errors: ValueError for sizes below 1, for angles that are no entries, or events that are no vectors.

    Reference: Rezende et al., *Normalizing flows on tori and spheres*, 2020, sec. 2.1.2 and 2.2.

    >>> import jax, jax.numpy as jnp
    >>> flow = CircularSplineCoupling(angles=(0,), passes=1, hidden=(16,)).build((2,))
    >>> x = jnp.array([[-3.0, 0.5], [2 * jnp.pi - 3.0, 0.5]])
    >>> params, state = flow.init(jax.random.key(0), x)
    >>> here, a_turn_later = flow.log_prob(params, state, x)[0]
    >>> bool(jnp.allclose(here, a_turn_later, atol=1e-5))
    True
    """

    angles: tuple[int, ...] | None = None
    """Which entries are angles; all of them by default."""
    passes: int = 3
    """How often every entry is changed by every bit."""
    hidden: tuple[int, ...] = (128, 128)
    """Widths of the inner layers of each network."""
    bins: int = 8
    """Of each spline."""
    limit: float = 4.0
    """Half the width of what the splines of other entries bend."""

    def __post_init__(self):
        object.__setattr__(self, "hidden", tuple(self.hidden))
        expect_at_least(self, 1, "passes", "hidden")
        RationalQuadraticSpline(self.bins, self.limit)  # refuses what does not fit
        if self.angles is not None:
            object.__setattr__(self, "angles", whole_numbers(self, "angles"))
            if len(set(self.angles)) < len(self.angles) or any(column < 0 for column in self.angles):
                raise ValueError(f"CircularSplineCoupling: expected angles that differ, from 0 on, got {self.angles}.")

    def build(
        self, event_shape: Shape, *, axis_name: str | None = None, network_dtype: Dtype = None, scan: bool | None = None
    ) -> Flow:
        entries = expect_vector(self, event_shape, least=1)
        angles = tuple(range(entries)) if self.angles is None else self.angles
        if any(column >= entries for column in angles):
            raise ValueError(f"CircularSplineCoupling: expected angles below {entries}, got {angles}.")
        others = tuple(column for column in range(entries) if column not in angles)
        kinds = ((angles, UniformCircle()), (others, StandardNormal()))
        base = ByColumns(tuple((columns, base) for columns, base in kinds if columns))
        network = conditioner(MLP(self.hidden), dtype=network_dtype)

        def couplings(changed):
            turning = InTurn((CircularSpline(self.bins), Additive()))
            for columns, transform in ((angles, turning), (others, RationalQuadraticSpline(self.bins, self.limit))):
                passing = [column for column in range(entries) if column not in changed or column not in columns]
                if len(passing) < entries:
                    seen = OfAngles(network, tuple(passing.index(column) for column in passing if column in angles))
                    mask = BooleanMask(tuple(column in passing for column in range(entries)))
                    yield Coupling(mask, transform, seen)

        one_pass = Chain(tuple(coupling for changed in halves(entries) for coupling in couplings(changed)))
        return Flow(Chain((OnColumns(Wrap(), angles), Repeat(one_pass, self.passes, scan))), base)


def halves(entries: int) -> list[list[int]]:
    """Which entries change, in turns: by each bit of their numbers, so that any two are once in different halves."""
    bits = range(max(1, (entries - 1).bit_length()))
    turns = [[column for column in range(entries) if column >> bit & 1 == value] for bit in bits for value in (0, 1)]
    return [turn for turn in turns if turn]
