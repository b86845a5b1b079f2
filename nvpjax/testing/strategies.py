"""Hypothesis strategies: values, shapes, masks and depths, from which failures shrink to small cases."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np

try:
    import hypothesis
    from hypothesis import strategies as st
    from hypothesis.extra import numpy as arrays
except ImportError as error:
    raise ImportError(
        'nvpjax.testing draws its cases with hypothesis: pip install "nvpjax[testing]", or pass cases=0.'
    ) from error

from nvpjax import AlternatingMask, BooleanMask, ChannelMask, Checkerboard, Conditioner, Coupling
from nvpjax.bijector import PyTree
from nvpjax.bijectors.masks import Mask
from nvpjax.bijectors.transforms import Transform
from nvpjax.testing.subject import Subject


def values(like: PyTree) -> st.SearchStrategy[PyTree]:
    """Trees of float64 arrays shaped like ``like``, each leaf between the smallest and the largest entry there."""
    leaves, structure = jax.tree.flatten(like)
    drawn = [
        arrays.arrays(np.float64, leaf.shape, elements=st.floats(float(leaf.min()), float(leaf.max())))
        for leaf in leaves
    ]
    return st.tuples(*drawn).map(lambda leaves: jax.tree.unflatten(structure, leaves))


def vector_shapes(smallest: int = 2, largest: int = 6) -> st.SearchStrategy[tuple[int]]:
    """Event shapes ``(entries,)``."""
    return st.integers(smallest, largest).map(lambda entries: (entries,))


def image_shapes(largest_side: int = 4, largest_channels: int = 3) -> st.SearchStrategy[tuple[int, int, int]]:
    """Event shapes ``(height, width, channels)`` with even sides of at least 2."""
    sides = st.integers(1, largest_side // 2).map(lambda half: 2 * half)
    return st.tuples(sides, sides, st.integers(1, largest_channels))


def depths(largest: int = 4) -> st.SearchStrategy[int]:
    """Numbers of layers, from 1."""
    return st.integers(1, largest)


def masks(event: tuple[int, ...]) -> st.SearchStrategy[Mask]:
    """Masks that fit events of this shape."""
    entries = event[-1]
    fitting = []
    if entries >= 2:
        fitting += [ChannelMask("first"), ChannelMask("second"), AlternatingMask("even"), AlternatingMask("odd")]
    if len(event) >= 2 and np.prod(event[:-1]) >= 2:
        fitting += [Checkerboard("even"), Checkerboard("odd")]
    strategies = [st.sampled_from(fitting)] if fitting else []
    if entries >= 2:
        some = st.tuples(*[st.booleans()] * entries).filter(lambda marks: any(marks) and not all(marks))
        strategies.append(some.map(BooleanMask))
    return st.one_of(strategies)


def couplings(event: tuple[int, ...], transform: Transform, conditioner: Conditioner) -> st.SearchStrategy[Coupling]:
    """Couplings for events of this shape: a drawn mask, ``transform`` and ``conditioner``."""
    return masks(event).map(lambda mask: Coupling(mask, transform, conditioner))


def run_at_drawn_points(subject: Subject, at: Callable[..., None], dtypes: tuple[str, ...], cases: int) -> None:
    """Call ``at(dtype, x, parameter_seed, key)`` for ``cases`` draws in every dtype; the smallest failure is raised."""

    @hypothesis.seed(subject.seed)
    @hypothesis.settings(
        max_examples=cases,
        database=None,
        deadline=None,
        phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
        # hypothesis declares the entries of this enum as its metaclass
        suppress_health_check=tuple(hypothesis.HealthCheck),  # pyright: ignore[reportArgumentType]
        report_multiple_bugs=False,
        print_blob=False,
    )
    @hypothesis.given(values(subject.x), st.integers(0, 99))
    def run(x, parameter_seed):
        drawn = (parameter_seed, *(leaf.tobytes() for leaf in jax.tree.leaves(x)))
        for dtype in dtypes:
            at(dtype, x, parameter_seed, (dtype, *drawn))

    run()
