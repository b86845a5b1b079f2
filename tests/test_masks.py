"""Masks divide an event and put it together again, whatever its shape."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvpjax import ChannelMask, Checkerboard, NoMask

SHAPES = st.lists(st.integers(1, 5), min_size=2, max_size=4).map(tuple)
MASKS = st.sampled_from(
    [ChannelMask("first"), ChannelMask("second"), Checkerboard("even"), Checkerboard("odd"), NoMask()]
)


def fits(mask, shape):
    if isinstance(mask, Checkerboard):
        return len(shape) >= 3 and np.prod(shape[1:-1]) >= 2
    return not isinstance(mask, ChannelMask) or shape[-1] >= 2


@settings(deadline=None, max_examples=60, derandomize=True)
@given(MASKS, SHAPES)
def test_split_and_merge(mask, shape):
    x = jnp.arange(1, 1 + np.prod(shape), dtype=jnp.float32).reshape(shape)
    if not fits(mask, shape):
        with pytest.raises(ValueError, match=f"{type(mask).__name__}: expected shape"):
            mask.split(x)
        return
    passed, changed = mask.split(x)
    assert np.array_equal(mask.merge(passed, changed), x)
    assert np.array_equal(mask.only_changed(changed), changed)
    # Every entry is in one part, in that part only, and a mask and its complement together change all.
    parts = np.concatenate([np.ravel(passed), np.ravel(changed)])
    assert sorted(parts[parts != 0]) == np.ravel(x).tolist()
    if not isinstance(mask, NoMask):
        both = np.concatenate([np.ravel(changed), np.ravel(mask.complement().split(x)[1])])
        assert sorted(both[both != 0]) == np.ravel(x).tolist()


def test_checkerboard_shows_its_mask_as_a_channel():
    mask = Checkerboard("even")
    shown = mask.shown(mask.split(jnp.full((1, 2, 3, 2), 7.0))[0])
    assert np.array_equal(shown[0, ..., -1], [[1, 0, 1], [0, 1, 0]])
    assert np.array_equal(shown[0, ..., 0], [[7, 0, 7], [0, 7, 0]])


def test_unknown_halves_are_refused():
    with pytest.raises(ValueError, match="expected passes to be one of"):
        Checkerboard("first")
