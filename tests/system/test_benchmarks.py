"""Benchmarks: their counts against counts by hand, and their imports."""

import pathlib
import re
import subprocess
import sys

import pytest

import models
from benchmarks import updates

ROOT = pathlib.Path(__file__).parents[2]


def test_contenders_import_no_package_before_one_is_chosen():
    """The peers' Python has neither Keras nor TensorFlow, nor has ours PFRL."""
    code = ("import sys, benchmarks.contenders; "
            "sys.exit(bool({'numpy', 'keras', 'gymnasium', 'train'} & set(sys.modules)))")
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("network, history, first, all_layers", [
    # 20 x 20 places of 32 8x8 kernels; 9 x 9 of 64 4x4x32; 7 x 7 of 64 3x3x64; the core; the head of 18 actions
    ("DQN", 4, 3_276_800, 3_276_800 + 2_654_208 + 1_806_336 + 3136 * 512 + 512 * 18),
    ("DRQN", 1, 819_200, 819_200 + 2_654_208 + 1_806_336 + (3136 + 512) * 2048 + 512 * 18)])
def test_multiply_adds_of_a_timestep(network, history, first, all_layers):
    network = models.QNetwork(network, updates.NATURE, 18, history, 512)
    assert updates.count_multiply_adds(network) == (first, all_layers)


def test_shares_of_operations_that_differ_in_their_numbers():
    events = [("update", 2.0), ("net_3/core_1/MatMul_10", 0.5), ("net_1/core_1/MatMul_2", 0.3),
              ("net_1/core_1/MatMul", 0.6), ("add_fusion.7", 0.4), ("net_1/small", 0.01)]
    assert updates.sum_by_kind(events) == [
        dict(operation="net/core/MatMul_#", times=2, milliseconds=800.0, share=0.4),
        dict(operation="net/core/MatMul", times=1, milliseconds=600.0, share=0.3),
        dict(operation="add_fusion_#", times=1, milliseconds=400.0, share=0.2),
        dict(operation="all others, and between them", times="", milliseconds=200.0, share=0.1)]


def test_a_profile_has_every_convolution_and_product():
    (name, _), *events = updates.profile_update("DQN", "float32")
    kinds = [re.sub(r"_\d+", "", name) for name, _ in events]
    assert name == "update"
    assert kinds.count("dqn/torso/conv2d/Relu") == 6  # three layers, two networks
    assert kinds.count("gradient_tape/dqn/torso/conv2d/convolution/Conv2DBackpropFilter") == 3
    assert kinds.count("gradient_tape/dqn/torso/conv2d/convolution/Conv2DBackpropInput") == 2  # The pixels need none.
    assert kinds.count("dqn/core/MatMul") == 2
    assert all(seconds > 0 for _, seconds in events)


@pytest.mark.slow
def test_rollouts_are_timed_and_their_phases_add_up(tmp_path):
    flags = "--units=8 --batch_size=2 --update_period=16 --unroll=8".split()
    command = [sys.executable, "-m", "benchmarks.rollouts", "--networks=PQN_dense_LSTM", "--num_envs=4"]
    command += ["--seconds=0.5", "--turns=2", f"--out={tmp_path / 'rollouts'}", *flags]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    header, row = (tmp_path / "rollouts.csv").read_text().splitlines()
    row = dict(zip(header.split(","), row.split(",")))
    phases = sum(float(value) for name, value in row.items() if name.endswith("_ms_per_step"))
    assert row["network"] == "PQN_dense_LSTM" and row["num_envs"] == "4"
    assert 0.3 < phases * float(row["steps_per_second"]) / 1000 < 1.1  # of all the time
