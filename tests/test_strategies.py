"""Cases that hypothesis draws from nvpjax.testing.strategies: random chains of couplings, and every mask."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from nvpjax import Affine, AlternatingMask, BooleanMask, Chain, ChannelMask, Checkerboard
from nvpjax.nets import MLP
from nvpjax.testing import check_bijector
from nvpjax.testing.strategies import couplings, depths, image_shapes, masks, vector_shapes

EVENTS = vector_shapes(largest=3) | image_shapes(largest_side=2, largest_channels=2)
CHECKS = ("round trip", "log-det against the Jacobian", "log-det of the inverse", "shapes")


# Without shrinking: every case compiles its own programs, and the cases are small as they are drawn.
@settings(deadline=None, max_examples=6, derandomize=True, database=None, phases=[Phase.generate])
@given(st.data())
def test_random_chains_of_couplings_are_invertible(data):
    event = data.draw(EVENTS)
    number = data.draw(depths(2))
    network = MLP((4,), activation=jnp.tanh)
    layers = data.draw(st.lists(couplings(event, Affine(), network), min_size=number, max_size=number))
    x = np.random.default_rng(number).normal(size=(2, *event)).astype(np.float32)
    report = check_bijector(Chain(layers), x, cases=0, dtypes=("float32",), checks=CHECKS)
    assert [result.outcome for result in report.results] == ["passed"] * len(CHECKS)


def passes(mask, event):
    """What the mask's documentation says, as an array of booleans."""
    entries = np.arange(event[-1])
    if isinstance(mask, ChannelMask):
        chosen = (entries < event[-1] // 2) == (mask.passes == "first")
    elif isinstance(mask, AlternatingMask):
        chosen = entries % 2 == ("even", "odd").index(mask.passes)
    elif isinstance(mask, BooleanMask):
        chosen = np.array(mask.passes)
    else:
        chosen = np.indices(event[:-1]).sum(axis=0)[..., None] % 2 == ("even", "odd").index(mask.passes)
    return np.broadcast_to(chosen, event)


@settings(deadline=None, max_examples=30, derandomize=True, database=None)
@given(st.data())
def test_every_mask_divides_as_documented_and_puts_together_again(data):
    event = data.draw(vector_shapes(3, 5) | image_shapes(largest_side=2))
    mask = data.draw(masks(event))
    x = np.arange(1, 1 + 2 * np.prod(event), dtype=np.float32).reshape(2, *event)

    those = passes(mask, event)
    assert those.any() and not those.all()
    for part, chosen in ((mask, those), (mask.complement(), ~those)):
        passed, changed = (np.asarray(a) for a in part.split(x))
        assert np.array_equal(part.merge(passed, changed), x)
        assert np.array_equal(part.merge(passed, -changed), np.where(chosen, x, -x))
        assert sorted(passed[passed != 0]) == sorted(x[:, chosen].ravel())
        ones = np.asarray(part.only_changed(np.ones_like(changed)))
        assert np.sum(ones) == 2 * (~chosen).sum() and np.array_equal(ones * changed, changed)


@pytest.mark.parametrize("event", [(3,), (2, 2, 1), (2, 2, 2)], ids=str)
def test_all_masks_that_fit_an_event_are_drawn(event):
    expected = {Checkerboard("even"), Checkerboard("odd")} if len(event) == 3 else set()
    if event[-1] >= 2:
        halves, parities = ("first", "second"), ("even", "odd")
        expected |= {ChannelMask(half) for half in halves} | {AlternatingMask(parity) for parity in parities}
        expected |= {BooleanMask((True, *[False] * (event[-1] - 1)))}
    for mask in expected:
        find(masks(event), lambda drawn, mask=mask: drawn == mask, settings=settings(database=None, derandomize=True))
