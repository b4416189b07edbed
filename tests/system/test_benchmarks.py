"""Benchmarks: their counts against counts by hand, and their imports."""

import argparse
import collections
import contextlib
import json
import pathlib
import re
import subprocess
import sys

from launch.settings import configure

import numpy as np
import pytest

import agent
import models
from benchmarks import contenders, rollouts, speed, timings, updates

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


@pytest.mark.parametrize("network, target_period, forwards", [("DRQN", 100, 2 * 10), ("DRQN", 0, 10 + 1)])
def test_operations_of_an_update(network, target_period, forwards):
    """Backward through the 10 steps of the online network; forward in both, or over the last observation besides."""
    learner = agent.Agent(network, updates.NATURE, 18, 1, 8, target_network=target_period > 0)
    first, all_layers = updates.count_multiply_adds(learner.online_network)
    counted = updates.count_operations(learner, dict(batch_size=32, unroll=10))
    assert counted == 2 * 32 * (forwards * all_layers + 10 * (2 * all_layers - first))


def test_a_turn_is_as_many_slices_as_its_seconds_take():
    class Halves:
        def turn(self, steps):
            return dict(agent_steps=steps + 1, seconds=0.5, updates=2, operations=7, phases=dict(learn=0.25, act=0.125))

    assert rollouts.take_turn(Halves(), 3, seconds=1.2) == dict(
        agent_steps=12, seconds=1.5, operations=21, learn=0.75, act=0.375)


def timed_turn(agent_steps, seconds, operations=0, **phases):
    return collections.Counter(dict(agent_steps=agent_steps, seconds=seconds, operations=operations, **phases))


@pytest.mark.parametrize("backend, learned", [("tensorflow", (30, 0.5)), ("jax", ("", ""))])
def test_a_row_has_ratios_within_turns_and_the_share_of_the_peak(monkeypatch, backend, learned):
    monkeypatch.setenv("KERAS_BACKEND", backend)
    loop = rollouts.Loop(dict(system="CleanRL", network="PQN", precision="float32", num_envs=4), 1, [])
    turns = [timed_turn(100, 2, 30e9, act=0.5, environment=0.25, learn=1), timed_turn(100, 4, 30e9, act=1, learn=2),
             timed_turn(300, 2, 30e9, act=1, learn=0.5)]
    ours = [timed_turn(200, 2), timed_turn(200, 2), timed_turn(300, 1)]
    products = [timed_turn(1, 2, 120e9), timed_turn(1, 2, 100e9), timed_turn(1, 1, 80e9)]  # 60, 50 and 80 GFLOP/s
    assert rollouts.summarise(loop, turns, ours, products) == dict(
        system="CleanRL", network="PQN", precision="float32", num_envs=4,
        steps_per_second=50, steps_per_second_min=25, steps_per_second_max=150,
        ratio_to_ours=0.5, ratio_to_ours_min=0.25, ratio_to_ours_max=0.5,
        environment_share=0.031, act_share=0.312, sample_share=0, learn_share=0.438,
        learn_gflops=learned[0], product_gflops=60, learn_share_of_peak=learned[1])


def test_a_row_of_a_loop_that_tells_no_phases_leaves_them_out():
    row = rollouts.summarise(rollouts.Loop(dict(system="PFRL"), 1, []), [timed_turn(100, 2)], [timed_turn(200, 2)],
                             [timed_turn(1, 2, 100e9)])
    assert row["steps_per_second"] == 50 and row["ratio_to_ours"] == 0.5 and row["product_gflops"] == 50
    assert {row[name] for name in ("act_share", "learn_share", "learn_gflops", "learn_share_of_peak")} == {""}


def cleanrl_trial(gamma, trace_decay, multiply_adds):
    """Return a subprocess.run that answers as the trial of cleanrl.py, its targets computed one by one."""
    def run(command, **_):
        *_, settings, path = command
        numbers, (T, N) = dict(np.load(path)), (json.loads(settings)["unroll"], json.loads(settings)["num_envs"])
        ended = np.concatenate([numbers["dones"], numbers["next_done"][None]])
        value = np.concatenate([numbers["values"], numbers["next_value"][None]])
        targets = np.zeros((T + 1, N))
        targets[T] = value[T]
        for t, n in reversed(list(np.ndindex(T, N))):
            ahead = (1 - trace_decay) * value[t + 1, n] + trace_decay * targets[t + 1, n]
            targets[t, n] = numbers["rewards"][t, n] + gamma * (1 - ended[t + 1, n]) * ahead
        np.savez(path, targets=targets[:T], multiply_adds=multiply_adds, num_actions=18)
        return subprocess.CompletedProcess(command, 0)
    return run


# As above, of PQN: 4 frames, and a dense layer.
PQN_COUNTS = 3_276_800, 3_276_800 + 2_654_208 + 1_806_336 + 3136 * 512 + 512 * 18


@pytest.mark.parametrize("gamma, trace_decay, counts, error", [
    (0.99, 0.65, PQN_COUNTS, None),
    (0.99, 0.6, PQN_COUNTS, "CleanRL's loop has other targets than agent.q_lambda"),
    (0.9, 0.65, PQN_COUNTS, "CleanRL's loop has other targets than agent.q_lambda"),
    (0.99, 0.65, (1, 2), r"network makes \[1 2\] multiply-adds .* expected those of PQN: \(3276800, 9352192\)")
])
def test_cleanrl_is_timed_only_if_it_learns_the_same(monkeypatch, gamma, trace_decay, counts, error):
    settings = configure([f"--flagfile={ROOT}/presets/pqn.flags"])["settings"]
    monkeypatch.setattr(rollouts.subprocess, "run", cleanrl_trial(gamma, trace_decay, counts))
    with pytest.raises(SystemExit, match=error) if error else contextlib.nullcontext():
        rollouts.check_cleanrl(settings)


@pytest.mark.parametrize("flags, error", [
    ([], r"/no/python does not exist; `make .venv-peers/installed` makes it, and --ours_only does without it"),
    (["--flicker=0.5"], "--flicker=0.5 applies to ours alone, since CleanRL's loop shows every screen; "
                        "expected --ours_only beside it")])
def test_peers_that_cannot_be_timed_beside_ours(monkeypatch, flags, error):
    monkeypatch.setattr(speed, "PEERS_PYTHON", "/no/python")
    monkeypatch.chdir(ROOT)
    options = argparse.Namespace(num_envs=[4], precisions=["float32"], ours_only=False, cleanrl_only=False)
    with pytest.raises(SystemExit, match=re.escape(error)):
        rollouts.list_loops("pqn", options, flags)


def test_rows_of_a_recurrent_preset(monkeypatch):
    monkeypatch.setattr(rollouts, "check_cleanrl", lambda settings: None)
    monkeypatch.chdir(ROOT)
    options = argparse.Namespace(num_envs=[4, 8], precisions=["float32", "mixed_bfloat16"], ours_only=False,
                                 cleanrl_only=False)
    loops = rollouts.list_loops("pqn_lstm", options, ["--units=16"])
    assert [tuple(loop.columns.values()) for loop in loops] == [
        ("ours", "PQN_dense_LSTM", "float32", 8), ("ours", "PQN_dense_LSTM", "float32", 4),
        ("ours", "PQN_dense_LSTM", "mixed_bfloat16", 8), ("CleanRL", "PQN_dense_LSTM", "float32", 8),
        ("CleanRL", "PQN_dense_LSTM", "mixed_bfloat16", 8), ("ours", "DRQN", "float32", 8),
        ("ours", "DRQN", "mixed_bfloat16", 8), ("PFRL", "DRQN", "float32", 1)]
    theirs = json.loads(loops[4].arguments[1])
    ours = configure(loops[2].arguments[1:])["settings"]
    assert theirs == ours and theirs["units"] == 16 and theirs["precision"] == "mixed_bfloat16"


def test_rollouts_are_timed_whole():
    flags = "--units=8 --batch_size=2 --update_period=16 --unroll=8 --num_envs=4 --env=Frostbite".split()
    contender = contenders.Rollouts([f"--flagfile={ROOT}/presets/pqn_lstm.flags", *flags])
    for updates_so_far, rows in ((2, 9), (4, 8)):  # A rollout is learned while the emulators make the row after it.
        assert contender.advance(1) == 4 * rows
        assert contender.updates() == updates_so_far  # one pass, two windows for an update
    assert set(contender.phases()) >= {"act", "environment", "sample", "learn"}
    contender.trainer.storage.close()


@pytest.mark.slow
def test_the_table_of_rollouts(tmp_path):
    flags = "--units=8 --batch_size=2 --update_period=16 --unroll=8".split()
    command = [sys.executable, "-m", "benchmarks.rollouts", "--presets=pqn_lstm", "--num_envs=4,8", "--ours_only"]
    command += ["--precisions=float32", "--seconds=0.5", "--turns=2", f"--out={tmp_path / 'rollouts'}", *flags]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    rows = timings.read_rows(tmp_path / "rollouts.csv")
    assert [(row["system"], row["network"], row["num_envs"]) for row in rows] == [
        ("ours", "PQN_dense_LSTM", "8"), ("ours", "PQN_dense_LSTM", "4")]
    assert rows[0]["ratio_to_ours"] == "1.0"
    for row in rows:
        phases = sum(float(row[f"{name}_share"]) for name in ("environment", "act", "sample", "learn"))
        assert 0.3 < phases < 1.01  # of all the time
        assert 0 < float(row["learn_share_of_peak"]) < 1
        assert f"| {row['steps_per_second']} |" in (tmp_path / "rollouts.md").read_text()
