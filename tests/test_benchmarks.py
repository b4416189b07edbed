"""What the benchmarks count, against counts by hand."""

import pytest

import models
from benchmarks import speed


@pytest.mark.parametrize("network, history, first, all_layers", [
    # 20 x 20 places of 32 8x8 kernels; 9 x 9 of 64 4x4x32; 7 x 7 of 64 3x3x64; the core; the head of 18 actions
    ("DQN", 4, 3_276_800, 3_276_800 + 2_654_208 + 1_806_336 + 3136 * 512 + 512 * 18),
    ("DRQN", 1, 819_200, 819_200 + 2_654_208 + 1_806_336 + (3136 + 512) * 2048 + 512 * 18)])
def test_multiply_adds_of_a_timestep(network, history, first, all_layers):
    assert speed.multiply_adds(models.QNetwork(network, speed.NATURE, 18, history, 512)) == (first, all_layers)
