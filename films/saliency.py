"""Compute saliency: how much each patch of the newest frame moves a Q-value.

Reference: Greydanus et al. 2018, Visualizing and Understanding Atari Agents.
"""

import functools
from collections.abc import Callable

import cv2
import numpy as np

# Pixels, as in the paper: a score every 5, a mask of sigma^2 = 25, a blur of sigma 3.
STRIDE, MASK_SIGMA, BLUR_SIGMA = 5, 5.0, 3.0


@functools.cache
def make_masks(size: int) -> np.ndarray:
    """Return float32[P, size, size]: a Gaussian with a peak of 1 around every fifth pixel of every fifth row.

    The P centres lie in the middles of patches of 5 x 5, so that enlarging the grid of their scores moves nothing.
    """
    pixels, centres = np.arange(size, dtype=np.float32), np.arange(STRIDE // 2, size, STRIDE)
    bells = np.exp(-(pixels - centres[:, None]) ** 2 / (2 * MASK_SIGMA**2))  # [sqrt(P), size]
    return (bells[:, None, :, None] * bells[None, :, None, :]).reshape(-1, size, size)


def perturb_frame(frame: np.ndarray) -> np.ndarray:
    """Return uint8[P, *frame.shape], the frame I blurred around each location, in all its channels.

    It is I (1 - M) + A(I) M, with A a Gaussian blur and M the masks.
    """
    blurred = cv2.GaussianBlur(frame.astype(np.float32), (0, 0), BLUR_SIGMA, borderType=cv2.BORDER_REFLECT)
    masks = make_masks(len(frame)).reshape(-1, *frame.shape[:2], *[1] * (frame.ndim - 2))
    return np.rint(frame + (blurred - frame) * masks).astype(np.uint8)


def compute_saliency(q_values: Callable[[np.ndarray], np.ndarray], frames: np.ndarray, action: int) -> np.ndarray:
    """Return float32[size, size]: 1/2 (Q_perturbed - Q)^2 of the action at each location, interpolated between them.

    Paper: the squared distance of an actor's logits, and of a critic's value. Here: of the chosen action's Q-value,
    because it decides.

    Args:
        q_values: function from stacks [K, H, ...] to float32[K, A]; called once.
        frames: uint8[H, size, size] or RGB, [H, size, size, 3], the agent's last. Only the newest is perturbed, as in
            the paper, whose network has one. The agent's history and state keep the earlier frames as they were.
        action: index of the chosen action.
    """
    perturbed = perturb_frame(frames[-1])
    stacks = np.repeat(frames[None], 1 + len(perturbed), axis=0)
    stacks[1:, -1] = perturbed
    q = q_values(stacks)[:, action]
    scores = 0.5 * (q[1:] - q[0]) ** 2
    side, size = round(len(scores) ** 0.5), frames.shape[1]
    grid = scores.reshape(side, side).astype(np.float32)
    return cv2.resize(grid, (side * STRIDE,) * 2, interpolation=cv2.INTER_LINEAR)[:size, :size]
