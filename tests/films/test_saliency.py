"""Saliency by perturbation, against the formula of Greydanus et al. 2018 and a network that looks at one place only."""

import math

import numpy as np

from films import saliency

LOCATIONS = [(y, x) for y in range(2, 84, 5) for x in range(2, 84, 5)]


def test_a_mask_is_a_gaussian_of_variance_25_around_each_location():
    masks = saliency.make_masks(84)
    assert masks.shape == (17 * 17, 84, 84)
    for mask, (y, x) in zip(masks, LOCATIONS):
        assert mask[y, x] == mask.max() == 1
    mask = masks[LOCATIONS.index((42, 22))]
    assert math.isclose(mask[45, 26], math.exp(-(3**2 + 4**2) / (2 * 25)), rel_tol=1e-6)
    assert math.isclose(mask[39, 18], mask[45, 26])


def test_a_perturbed_frame_is_the_papers_formula():
    """A blur of deviation 3 turns a dot of 255 into 255 / (2 pi 9) = 4.5, 4.5 exp(-25 / 18) = 1.1 at (3, 4)."""
    frame = np.zeros((84, 84), np.uint8)
    frame[42, 22] = 255
    perturbed = saliency.perturb_frame(frame)
    assert perturbed.shape == (17 * 17, 84, 84) and perturbed.dtype == np.uint8
    here = perturbed[LOCATIONS.index((42, 22))]
    assert here[42, 22] == 5  # M is 1: the blur alone
    assert here[45, 26] == 1  # M is 0.61: 0.39 * 0 + 0.61 * 1.1 = 0.68
    beside = perturbed[LOCATIONS.index((42, 27))]
    assert beside[42, 22] == round(255 + math.exp(-0.5) * (4.5 - 255))  # M is 0.61 at a distance of 5
    far = perturbed[LOCATIONS.index((2, 82))]
    assert np.array_equal(far, frame)


def test_a_network_that_looks_at_one_place_is_moved_there_alone():
    rng, calls = np.random.default_rng(0), []
    frames = rng.integers(256, size=(4, 84, 84), dtype=np.uint8)

    def q_values(stacks):
        calls.append(len(stacks))
        assert stacks.dtype == np.uint8
        assert (stacks[:, :-1] == frames[:-1]).all(), "earlier frames were perturbed"
        looked_at = stacks[:, -1, 40:45, 20:25].astype(np.float32).mean(axis=(1, 2))
        return np.stack([np.full(len(stacks), 3.0), looked_at], axis=1)

    found = saliency.compute_saliency(q_values, frames, action=1)
    assert calls == [1 + 17 * 17] and found.shape == (84, 84)
    assert np.unravel_index(found.argmax(), found.shape) == (42, 22)
    y, x = np.mgrid[:84, :84]
    far = np.hypot(y - 42, x - 22) > 35
    assert found[42, 22] > 1 and not found[far].any()
    # At a location itself the map is its score, one half of the squared change of Q.
    perturbed = saliency.perturb_frame(frames[-1])[LOCATIONS.index((47, 27))]
    change = perturbed[40:45, 20:25].mean() - frames[-1, 40:45, 20:25].mean()
    assert math.isclose(found[47, 27], change**2 / 2, rel_tol=1e-3) and found[47, 27] > 0
    assert not saliency.compute_saliency(q_values, frames, action=0).any()  # nothing moves a constant


def test_of_rgb_each_channel_is_blurred_and_a_network_that_looks_at_blue_is_moved_by_it():
    frames = np.random.default_rng(0).integers(256, size=(2, 84, 84, 3), dtype=np.uint8)
    perturbed = saliency.perturb_frame(frames[-1])
    for channel in range(3):
        np.testing.assert_array_equal(perturbed[..., channel], saliency.perturb_frame(frames[-1, ..., channel]))

    def q_values(stacks):
        assert (stacks[:, 0] == frames[0]).all(), "the earlier frame was perturbed"
        return stacks[:, -1, 40:45, 20:25, 2].astype(np.float32).mean(axis=(1, 2))[:, None]

    found = saliency.compute_saliency(q_values, frames, action=0)
    assert found.shape == (84, 84) and np.unravel_index(found.argmax(), found.shape) == (42, 22)
    change = perturbed[LOCATIONS.index((42, 22)), 40:45, 20:25, 2].mean() - frames[-1, 40:45, 20:25, 2].mean()
    assert math.isclose(found[42, 22], change**2 / 2, rel_tol=1e-3)


def test_nothing_is_salient_in_an_obscured_frame():
    q_values = lambda stacks: stacks.reshape(len(stacks), -1).astype(np.float32)
    assert not saliency.compute_saliency(q_values, np.zeros((1, 84, 84), np.uint8), action=7).any()
