"""R2D2 as options of the one update: weights and priorities in the loss, and whole runs."""

import numpy as np
import pytest
from keras import ops

import agent as agents
from helpers.short_runs import arrays_of, assert_same_runs, kill_at, rows_without_seconds, stop_at, train_run
from helpers.windows import A, make_agent, make_window

numpy = ops.convert_to_numpy
R2D2 = """--network=R2D2 --env=CartPole-v1 --flicker=0.3 --num_envs=4 --unroll=6 --burn_in=3 --bufflen=240
    --batch_size=4 --update_period=8 --units=8 --target_period=50 --double --trace_decay=0.8 --reward_scale=rescale
    --loss=mse --learning_starts=60 --optimizer=adam --learning_rate=1e-2 --maxsteps=400 --epsilon_decay=apex
    --eval_period=150 --eval_episodes=2 --checkpoint_period=90""".split()


def test_a_windows_priority_by_hand():
    """.9 of the largest and .1 of the mean of the errors that count."""
    size = np.float32([[1, 4, 1], [2, 9, 9], [7, 7, 7]])
    mask = np.float32([[1, 1, 1], [1, 0, 0], [0, 0, 0]])
    np.testing.assert_allclose(numpy(agents.window_priority(size, mask)), [0.9 * 4 + 0.1 * 2, 2, 0], rtol=1e-6)


def test_the_loss_weighs_windows_and_the_priorities_do_not():
    agent, window = make_agent(loss="mse"), make_window(4, 3)
    window = window._replace(mask=np.float32([[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 1]]))
    weight = np.float32([1, 0.5, 0.25, 0])
    networks, state = (agent.online_network, agent.target_network), agent.initial_state(4)
    _, plain = agents.td_loss(*networks, window, state, "mse")
    loss, aux = agents.td_loss(*networks, window._replace(weight=weight), state, "mse")
    errors = numpy(plain["td_error"])
    assert "priority" not in plain and float(loss) == pytest.approx(
        (weight[:, None] * window.mask * errors**2).sum() / 2 / 9, rel=1e-5)
    expected = numpy(agents.window_priority(abs(errors), window.mask))
    np.testing.assert_allclose(numpy(aux["priority"]), expected, rtol=1e-5)


def test_an_update_returns_the_priorities_of_the_loss_that_it_made():
    agent, window = make_agent("R2D2", optimizer="adam"), make_window(4, 3)
    window = window._replace(previous=np.zeros((4, 4, 2), np.float32), weight=np.ones(4, np.float32))
    _, aux = agents.td_loss(agent.online_network, agent.target_network, window,
                            agent.online_network.initial_state(4), "huber")
    expected = numpy(aux["priority"])
    np.testing.assert_allclose(numpy(agent.learn(window)["priority"]), expected, rtol=1e-4)
    assert A == 4 and len(set(expected)) == 4


@pytest.mark.usefixtures("small_periods")
def test_a_run_stopped_and_killed_anywhere_equals_one_that_was_not(tmp_path):
    run = train_run(R2D2, tmp_path / "whole")
    assert run.updates == (run.agent_step - 60) // 8 and run.settings["start_state"] == "stored"
    arrays = arrays_of(tmp_path / "whole")
    assert arrays["replay/priorities"].shape == (240,) and len(set(arrays["replay/priorities"])) > 20
    assert arrays["rollout/state/2"].shape == (4, 2)
    for at_step in (37, 201):
        stop_at(at_step, R2D2, tmp_path / "pieces")
    kill_at(301, R2D2, tmp_path / "pieces")
    train_run(R2D2, tmp_path / "pieces")
    assert_same_runs(tmp_path / "whole", tmp_path / "pieces")
    rows = rows_without_seconds(tmp_path / "whole", "learn")
    assert all(float(row["epsilon"]) == pytest.approx((0.4 ** np.linspace(1, 8, 4)).mean()) for row in rows)


@pytest.mark.parametrize("removed", [
    "--burn_in=0", "--start_state=zero", "--sample=timestep --start_state=stored", "--nodouble",
    "--network=R2D2_screen"])
def test_each_part_can_be_left_out(removed, tmp_path):
    run = train_run([*R2D2, *removed.split(), "--maxsteps=150"], tmp_path)
    assert run.updates == (run.agent_step - 60) // 8 > 8
    stored = {name for name in run.replay.columns if name.startswith("state")}
    assert stored == (set() if run.settings["start_state"] == "zero" else {"state0", "state1"})
