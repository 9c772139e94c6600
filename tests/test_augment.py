"""What augmentation may change, and that it does the same eagerly and inside tf.data."""

import numpy as np
import pytest
import tensorflow as tf

from bcnet.data.augment import (
    SHIFT_RANGE,
    augment,
    draw_beta,
    jitter_stain,
    list_symmetries,
    mix_up,
    shift_and_mirror,
    turn_and_flip,
)

SEED = tf.constant([3, 4])


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (64, 6, 6, 3)).astype(np.uint8)


def test_list_symmetries_holds_eight_different_ones_for_a_square():
    assert len({tuple(symmetry) for symmetry in list_symmetries(3, 3)}) == 8


def test_list_symmetries_of_two_by_two_by_hand():
    # a b      c d      b a      d c   and the same four of the transposed a c / b d
    # c d      a b      d c      b a
    expected = ["abcd", "cdab", "badc", "dcba", "acbd", "bdac", "cadb", "dbca"]
    drawn = ["".join("abcd"[i] for i in symmetry) for symmetry in list_symmetries(2, 2)]
    assert drawn == expected


def test_turn_and_flip_draws_every_symmetry_and_nothing_else(images):
    same = np.repeat(images[:1], 200, axis=0)
    turned = turn_and_flip(tf.constant(same), SEED).numpy()
    allowed = {
        np.rot90(flipped, k).tobytes()
        for flipped in (images[0], images[0][:, ::-1])
        for k in range(4)
    }
    assert {picture.tobytes() for picture in turned} == allowed


def test_turn_and_flip_keeps_a_rectangle_a_rectangle(images):
    turned = turn_and_flip(tf.constant(images[:, :4]), SEED)
    assert turned.shape == (64, 4, 6, 3)
    np.testing.assert_array_equal(np.sort(turned, axis=None), np.sort(images[:, :4], axis=None))


def test_jitter_stain_changes_colour_within_the_range_of_grey_values(images):
    changed = jitter_stain(tf.constant(images), SEED).numpy()
    assert changed.min() >= 0
    assert changed.max() <= 255
    assert 1 < np.abs(changed - images).mean() < 40


def test_jitter_stain_leaves_white_light_nearly_white():
    white = np.full((32, 4, 4, 3), 255, np.uint8)
    changed = jitter_stain(tf.constant(white), SEED).numpy()
    assert changed.min() >= 255 * 0.89  # no stain to scale: only the light may change


def test_jitter_stain_treats_each_picture_differently(images):
    same = np.repeat(images[:1], 8, axis=0)
    changed = jitter_stain(tf.constant(same), SEED).numpy()
    assert len({picture.tobytes() for picture in changed}) == 8


def test_jitter_stain_of_zero_changes_only_the_light(images):
    changed = jitter_stain(tf.constant(images), SEED, stain_jitter=0.0).numpy() + 1
    inside = (changed > 1.001) & (changed < 255.999)
    light = np.where(inside, changed / (images + 1.0), np.nan).reshape(64, -1)
    assert np.nanmax(np.nanstd(light, axis=1)) < 1e-4


def test_jitter_stain_changes_more_when_asked_for_more(images):
    little, much = (
        np.abs(jitter_stain(tf.constant(images), SEED, stain_jitter=share) - images).mean()
        for share in (0.05, 0.5)
    )
    assert much > 2 * little


def test_shift_and_mirror_never_turns_upside_down():
    rows = np.arange(50, dtype=np.uint8)[None, :, None, None] + np.zeros((40, 50, 50, 3), np.uint8)
    moved = shift_and_mirror(tf.constant(rows), SEED).numpy().astype(int)
    assert (np.diff(moved, axis=1) >= 0).all()
    assert np.abs(moved - rows).max() <= round(SHIFT_RANGE * 50)


def test_shift_and_mirror_mirrors_about_half():
    columns = np.arange(50, dtype=np.uint8)[None, None, :, None] + np.zeros(
        (200, 50, 50, 3), np.uint8
    )
    moved = shift_and_mirror(tf.constant(columns), SEED).numpy().astype(int)
    mirrored = moved[:, 0, 0, 0] > moved[:, 0, -1, 0]
    assert 70 < mirrored.sum() < 130


@pytest.mark.parametrize("modality", ["tissue", "radiology"])
def test_augment_inside_tf_data_equals_eager(images, modality):
    eager = augment(tf.constant(images), SEED, modality)
    ds = tf.data.Dataset.from_tensors(images).map(lambda batch: augment(batch, SEED, modality))
    np.testing.assert_allclose(next(iter(ds)), eager, atol=1e-3)


def test_augment_refuses_an_unknown_modality(images):
    with pytest.raises(ValueError, match="Received: modality='sound'"):
        augment(tf.constant(images), SEED, "sound")


def test_augment_passes_on_the_stain_jitter(images):
    default, other = (
        augment(tf.constant(images), SEED, "tissue", **options)
        for options in ({}, {"stain_jitter": 0.3})
    )
    assert not np.allclose(default, other)


# Two benign pictures and a malignant one, of other weights.
MIXED = (
    tf.constant(np.float32([0, 100, 200])[:, None, None, None] * np.ones((3, 2, 2, 3), np.float32)),
    tf.constant([[0.0], [0.0], [1.0]]),
    tf.constant([1.0, 1.0, 2.0]),
)


def test_mix_up_by_hand(monkeypatch):
    shares = tf.constant([0.75, 0.5, 1.0])
    monkeypatch.setattr("bcnet.data.augment.draw_beta", lambda *_: shares)
    images, labels, weights = mix_up(*MIXED, seed=SEED, alpha=0.2)
    np.testing.assert_allclose(images[:, 0, 0, 0], [0.25 * 200, 0.5 * 100, 200])
    np.testing.assert_allclose(weights, [0.75 * 1 + 0.25 * 2, 1, 2])
    np.testing.assert_allclose(labels[:, 0], [0.25 * 2 / 1.25, 0, 1])


def test_mix_up_mixes_the_weighted_losses():
    _, labels, weights = mix_up(*MIXED, seed=SEED, alpha=0.5)
    share = draw_beta([3], SEED, 0.5).numpy()
    logit = 0.7
    losses = np.log1p(np.exp(logit)) - logit * MIXED[1][:, 0].numpy()
    losses = losses * MIXED[2].numpy()
    mixed = np.log1p(np.exp(logit)) - logit * labels[:, 0].numpy()
    expected = share * losses + (1 - share) * np.roll(losses, 1)
    np.testing.assert_allclose(weights.numpy() * mixed, expected, rtol=1e-5)


def test_mix_up_inside_tf_data_equals_eager():
    ds = tf.data.Dataset.from_tensors(MIXED).map(lambda *batch: mix_up(*batch, seed=SEED, alpha=1))
    for found, expected in zip(next(iter(ds)), mix_up(*MIXED, seed=SEED, alpha=1), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_draw_beta_has_the_moments_of_beta(alpha):
    drawn = draw_beta([200_000], SEED, alpha).numpy()
    assert drawn.mean() == pytest.approx(0.5, abs=0.005)
    assert drawn.var() == pytest.approx(0.25 / (2 * alpha + 1), rel=0.02)


def test_draw_beta_of_a_tiny_alpha_is_zero_or_one_and_never_nan():
    drawn = draw_beta([10_000], SEED, 1e-3).numpy()
    assert np.isfinite(drawn).all()
    assert ((drawn < 0.01) | (drawn > 0.99)).mean() > 0.98


def test_draw_beta_depends_on_the_seed_alone():
    np.testing.assert_array_equal(draw_beta([9], SEED, 0.3), draw_beta([9], SEED, 0.3))
    assert not np.array_equal(draw_beta([9], SEED, 0.3), draw_beta([9], SEED + 1, 0.3))
