"""Saliency: how much each patch of the newest frame moves a Q-value (Greydanus et al. 2018, Visualizing and Understanding Atari Agents)."""

import functools

import cv2
import numpy as np

STRIDE, MASK_SIGMA, BLUR_SIGMA = 5, 5.0, 3.0  # pixels; the paper's: a score every 5, sigma^2 = 25 of the mask, 3 of the blur


@functools.cache
def masks(size):
    """Return float32[P, size, size]: a Gaussian with a peak of 1 around every fifth pixel of every fifth row.

    The P centres lie in the middles of patches of 5 x 5, so that enlarging the grid of their scores moves nothing.
    """
    pixels = np.arange(size, dtype=np.float32)
    bells = np.exp(-(pixels - np.arange(STRIDE // 2, size, STRIDE)[:, None]) ** 2 / (2 * MASK_SIGMA**2))  # [sqrt(P), size]
    return (bells[:, None, :, None] * bells[None, :, None, :]).reshape(-1, size, size)


def perturb(frame):
    """Return uint8[P, size, size], the frame blurred around each location: I (1 - M) + A(I) M, with A a Gaussian blur and M the masks."""
    blurred = cv2.GaussianBlur(frame.astype(np.float32), (0, 0), BLUR_SIGMA, borderType=cv2.BORDER_REFLECT)
    return np.rint(frame + (blurred - frame) * masks(len(frame))).astype(np.uint8)


def saliency(q_values, frames, action):
    """Return float32[size, size]: 1/2 (Q_perturbed - Q)^2 of the action around each location, and between them linearly.

    Paper: the squared distance of an actor's logits, and of a critic's value. Here: of the chosen action's Q-value, which is what decides.

    Args:
        q_values: from stacks uint8[K, H, size, size] to float32[K, A]; called once.
        frames: uint8[H, size, size], the agent's last; the newest alone is perturbed, as in the paper, whose network has one. What the
            agent knows of earlier ones, by its history or its state, stays.
        action: index of the chosen one.
    """
    perturbed = perturb(frames[-1])
    stacks = np.repeat(frames[None], 1 + len(perturbed), axis=0)
    stacks[1:, -1] = perturbed
    q = q_values(stacks)[:, action]
    scores = 0.5 * (q[1:] - q[0]) ** 2
    side, size = round(len(scores) ** 0.5), frames.shape[-1]
    return cv2.resize(scores.reshape(side, side).astype(np.float32), (side * STRIDE,) * 2, interpolation=cv2.INTER_LINEAR)[:size, :size]
