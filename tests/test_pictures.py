"""What the picture programs compute, and that pixels arrive in the file as they are."""

import jax
import numpy as np
import pytest

from experiments.compress import coarsest
from experiments.errors import UserError
from experiments.manifold import manifold
from experiments.pictures.grids import save_grid, to_pixels
from nvpjax import Chain, MultiScale, OrderedSqueeze
from tests.runs import picture

RNG = np.random.default_rng(0)


def test_pixels_of_a_grid_have_their_true_values(tmp_path):
    pixels = RNG.integers(0, 256, (4, 16, 16, 3), np.uint8)
    save_grid(tmp_path / "plain.png", pixels, 256, columns=2, gap=0)
    plain = np.asarray(picture(tmp_path / "plain.png"))
    assert plain.shape == (96, 96, 3)  # three screen pixels a pixel, and no seam between images
    whole = np.concatenate([np.concatenate(list(row), axis=1) for row in (pixels[:2], pixels[2:])])
    np.testing.assert_array_equal(plain, whole.repeat(3, axis=0).repeat(3, axis=1))

    save_grid(
        tmp_path / "titled.png", pixels, 256, columns=2, title="Title", row_titles=("a", "b"), column_titles=("c", "d")
    )
    titled = np.asarray(picture(tmp_path / "titled.png"))
    height = (2 * 17 + 1) * 3
    inside = titled[titled.shape[0] - 10 - height : -10][3:51, -10 - height + 3 : -10 - height + 51]
    np.testing.assert_array_equal(inside, pixels[0].repeat(3, axis=0).repeat(3, axis=1))


def test_values_outside_the_range_are_set_to_its_ends_and_counted():
    pixels, outside = to_pixels(np.array([-0.1, 0.0, 0.5, 0.999, 1.2, 1.3, 0.1, 0.2]), 256)
    assert pixels.tolist() == [0, 0, 128, 255, 255, 255, 25, 51] and outside == 3 / 8


def test_what_is_no_number_is_black_and_counted():
    pixels, outside = to_pixels(np.array([np.nan, 0.5, np.inf, -np.inf]), 256)
    assert pixels.tolist() == [0, 128, 255, 0] and outside == 3 / 4


def test_a_picture_that_cannot_be_written_says_so(tmp_path):
    with pytest.raises(UserError, match="cannot be written"):
        save_grid(tmp_path / "grid.nonsense", np.zeros((1, 2, 2, 1), np.uint8), 256)


def test_manifold_passes_through_its_corners_and_stays_as_likely():
    z = RNG.standard_normal((4, 3, 2)).astype(np.float32)
    points = manifold(list(z), 8).reshape(8, 8, 3, 2)
    np.testing.assert_allclose(points[0, 0], z[0], atol=1e-6)
    np.testing.assert_allclose(points[0, 2], z[1], atol=1e-6)  # φ = 0, φ′ = π/2
    np.testing.assert_allclose(points[2, 0], z[2], atol=1e-6)
    np.testing.assert_allclose(points[2, 2], z[3], atol=1e-6)
    np.testing.assert_allclose(points[4, 0], -z[0], atol=1e-6)
    orthonormal = manifold(list(np.eye(4, dtype=np.float32)), 8)
    np.testing.assert_allclose(np.linalg.norm(orthonormal, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("share", [1.0, 0.5, 0.25, 0.125, 0.0625])
def test_share_of_latents_kept_is_exact_and_coarser_shares_lie_within_finer_ones(share):
    shapes = [(14, 14, 2), (7, 7, 4), (7, 7, 4)]
    kept = coarsest(shapes, share)
    assert [mask.shape for mask in kept] == shapes
    assert sum(mask.sum() for mask in kept) == round(784 * share)
    assert all(not np.any(less & ~more) for less, more in zip(coarsest(shapes, share / 2), kept))
    assert coarsest(shapes, 0.5)[0].sum() == 0 and coarsest(shapes, 0.5)[2].all()  # the finest go first


def test_a_part_of_one_latent_is_what_further_scales_would_have_sent_on():
    scales = MultiScale((OrderedSqueeze(), OrderedSqueeze(), Chain(())))
    x = np.arange(64.0).reshape(1, 8, 8, 1)
    params, state = scales.init(jax.random.key(0), x)
    finest, middle, last = (np.asarray(z).ravel() for z in scales.forward(params, state, x)[0])
    for share, expected in ((0.25, last), (0.5, np.concatenate([last, middle]))):
        kept = x[0][coarsest([(8, 8, 1)], share)[0]]
        assert set(kept) == set(expected) and not set(kept) & set(finest)
