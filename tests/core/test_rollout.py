"""Rollouts: rows of the replay, ends of episodes, lost lives, new seeds and restored checkpoints."""

import numpy as np
import pytest

import rollout
from environments import catalogue
from helpers import counting
from helpers.steppers import (
    GAMMA,
    Recorder,
    column,
    make_atari_rollout,
    make_rollout,
    record_seeds,
    restore_rollout,
    step_row,
    step_rows,
)

# Rows


@pytest.mark.parametrize("shape", [(3,), (32, 36, 3)])
@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_a_row_holds_the_action_that_led_to_its_frame(end, shape):
    rows, _ = step_rows(make_rollout(length=(1, 6), end=end, shape=shape), 60)
    for env in range(3):
        t, action, reward, first = (column(rows, name, env) for name in "frame action reward first".split())
        assert first[0] and sum(first) > 5
        for k in range(1, len(rows)):
            assert t[k] == (1 if first[k] else t[k - 1] + 1)  # The observation advances every step.
            if not first[k]:
                assert reward[k] == 10 * t[k] + action[k]


def test_an_episode_of_n_steps_has_n_plus_1_rows_with_its_final_observation_last():
    rows, episodes = step_rows(make_rollout(length=3), 9)
    assert column(rows, "frame") == [1, 2, 3, 4, 1, 2, 3, 4, 1]
    assert column(rows, "first") == [True, False, False, False] * 2 + [True]
    assert [episode["length"] for episode in episodes if episode["environment"] == 0] == [3, 3]


@pytest.mark.parametrize("end, last", [("terminated", 0.0), ("truncated", GAMMA)])
def test_termination_gives_discount_zero_and_truncation_keeps_gamma(end, last):
    rows, _ = step_rows(make_rollout(length=3, end=end), 8)
    assert column(rows, "discount")[1:4] == column(rows, "discount")[5:8] == [GAMMA, GAMMA, last]


def test_a_time_limit_keeps_gamma_and_the_final_observation():
    envs = catalogue.make_envs(counting.register(length=50), 2, frame_skip=1, max_episode_frames=3)
    rows, _ = step_rows(rollout.Rollout(envs, Recorder(), 1, GAMMA, "none", 1), 5)
    assert column(rows, "frame") == [1, 2, 3, 4, 1]
    assert column(rows, "discount")[1:4] == [GAMMA] * 3


@pytest.mark.parametrize("make_stepper", [
    make_rollout, lambda: make_atari_rollout("Breakout"), lambda: make_atari_rollout("AssaultCrafted-v0")])
def test_send_and_receive_do_the_same_as_step(make_stepper):
    stepper, envs, rng = make_stepper(), make_stepper().envs, np.random.default_rng(3)
    row = stepper.reset()
    frame, _ = envs.reset(seed=rollout.derive_seeds(1, rollout.TRAINING, 1, size=envs.num_envs))
    np.testing.assert_array_equal(row["frame"], frame)
    for _ in range(20):
        actions = stepper.act(1.0, rng)
        assert stepper.send(actions) == (~stepper.last).sum()
        (row, _), (frame, _, terminated, truncated, _) = stepper.receive(), envs.step(actions)
        np.testing.assert_array_equal(row["frame"], frame)
        np.testing.assert_array_equal(row["action"], actions)
        np.testing.assert_array_equal(stepper.last, terminated | truncated)


def test_episodes_report_raw_returns_lengths_and_their_environment():
    stepper = make_rollout(length=(2, 5))
    rows, episodes = step_rows(stepper, 50)
    for env in range(3):
        ends = [k for k in range(1, 50) if rows[k]["first"][env]] + [50] * int(stepper.last[env])
        begins = [0, *ends]
        expected = [sum(column(rows, "reward", env)[a + 1:b]) for a, b in zip(begins, ends)]
        reported = [episode for episode in episodes if episode["environment"] == env]
        assert [episode["episode_return"] for episode in reported] == expected and len(expected) > 5
        assert [episode["training_reward"] for episode in reported] == expected
        assert [episode["length"] for episode in reported] == [b - a - 1 for a, b in zip(begins, ends)]


# What the agent sees


@pytest.mark.parametrize("history", [1, 3])
def test_the_agent_sees_the_newest_frames_of_the_running_episode_only(history):
    stepper = make_rollout(history=history, length=(1, 4))
    rows, _ = step_rows(stepper, 30)
    for k, seen in enumerate(stepper.agent.seen):  # The agent saw this before row k + 1.
        for env in range(3):
            t = column(rows, "frame", env)[k]
            assert seen["frames"][env, :, 0].tolist() == [max(0, n) for n in np.arange(t - history + 1, t + 1)]


def test_the_state_starts_anew_at_an_episodes_first_frame_and_advances_on_every_action():
    stepper = make_rollout(length=(1, 6))
    rows, _ = step_rows(stepper, 40)  # Every action is random.
    for k, seen in enumerate(stepper.agent.seen):
        assert seen["state"][:, 0].tolist() == [column(rows, "frame", env)[k] for env in range(3)]
        assert seen["first"].tolist() == rows[k]["first"].tolist()


# Lives and clipping


@pytest.mark.parametrize("life_loss, discounts, penalised", [
    ("none", [0.9, 0.9, 0.9, 0.9, 0.0], False),
    ("terminal", [0.0, 0.9, 0.0, 0.9, 0.0], False),
    ("penalty", [0.9, 0.9, 0.9, 0.9, 0.0], True)])
def test_a_lost_life_is_no_end(life_loss, discounts, penalised):
    stepper = make_rollout(life_loss=life_loss, length=5, lives=4, life_length=2)  # Lives go at frames 2, 4 and 6.
    rows, episodes = step_rows(stepper, 12)
    assert column(rows, "frame") == [1, 2, 3, 4, 5, 6] * 2
    assert column(rows, "first") == [True, False, False, False, False, False] * 2
    raw = [10 * t + a for t, a in zip(column(rows, "frame"), column(rows, "action"))]
    for episode, k in zip(episodes[::3], (1, 7)):
        assert column(rows, "discount")[k:k + 5] == discounts
        expected = [-1, raw[k + 1], -1, raw[k + 3], -1] if penalised else raw[k:k + 5]
        assert column(rows, "reward")[k:k + 5] == expected
        assert episode["environment"] == 0 and episode["length"] == 5
        assert episode["episode_return"] == sum(raw[k:k + 5])  # over all lives
        assert episode["training_reward"] == sum(expected)
    states = [seen["state"][0, 0] for seen in stepper.agent.seen]
    assert len(states) == 11 and states == ([1, 2, 3, 4, 5, 6] * 2)[:11]  # The recurrent state goes on too.


def test_lives_that_come_back_with_a_new_episode_are_not_lost_ones():
    # An episode begins with 1 life and ends with 0; the next one begins with 1 again.
    stepper = make_rollout(life_loss="terminal", length=1, end="truncated", lives=1, life_length=2)
    rows, _ = step_rows(stepper, 8)
    assert column(rows, "discount")[1::2] == [0.0] * 4
    stepper = make_rollout(life_loss="terminal", length=3, end="truncated", lives=3, life_length=100)
    rows, _ = step_rows(stepper, 12)
    assert set(column(rows, "discount")[1:4] + column(rows, "discount")[5:8]) == {GAMMA}


@pytest.mark.parametrize("game, signs", [
    ("Skiing", {-1}),  # loses 7 at every agent step
    ("Carnival", {0, 1})])  # wins 20 and more at some
def test_on_atari_training_rewards_are_signs_and_episode_returns_raw(game, signs):
    stepper = make_atari_rollout(game)
    rows, _ = step_rows(stepper, 24)
    rewards = np.array([row["reward"] for row in rows])[1:]
    assert set(np.unique(rewards)) == signs
    assert (stepper.training_reward == rewards.sum(axis=0)).all()
    assert (abs(stepper.episode_return) > 5 * abs(stepper.training_reward)).all()


@pytest.mark.parametrize("reward_scale, scaled", [
    ("clip", [0, 1, 1, 1]), ("raw", [0, 20, 30, 40]), ("rescale", [0, 20, 30, 40])])
def test_rewards_are_clipped_or_stay_where_that_is_asked_for(reward_scale, scaled):
    plain = make_rollout(length=9)
    stepper = rollout.Rollout(plain.envs, Recorder(num_actions=1), 2, GAMMA, "none", 1, reward_scale)
    rows, _ = step_rows(stepper, 4)
    assert column(rows, "reward") == scaled


def test_off_atari_training_rewards_are_raw():
    rows, _ = step_rows(make_rollout(length=9), 5)
    assert min(column(rows, "reward")[1:]) >= 20


@pytest.mark.parametrize("place, value, sentence", [
    (1, np.nan, "environment 1 of 3 gave reward nan in step 4 of its episode"),  # place in what `receive` returns
    (1, -np.inf, "environment 1 of 3 gave reward -inf in step 4 of its episode"),
    (0, np.inf, "environment 1 of 3 gave observation inf in step 4 of its episode")])
@pytest.mark.parametrize("reward_scale", ["clip", "raw"])  # The sign of an infinite reward is finite.
def test_what_is_not_finite_is_named_with_its_environment_and_step(place, value, sentence, reward_scale, monkeypatch):
    plain = make_rollout(length=9)
    stepper = rollout.Rollout(plain.envs, Recorder(), 2, GAMMA, "none", 1, reward_scale)
    step_rows(stepper, 4)
    receive = stepper.envs.receive

    def broken():
        returned = [np.array(part, float) if i < 2 else part for i, part in enumerate(receive())]
        returned[place][1] = value
        return returned
    monkeypatch.setattr(stepper.envs, "receive", broken)
    with pytest.raises(FloatingPointError, match=sentence):
        step_rows(stepper, 1)


@pytest.mark.slow
@pytest.mark.parametrize("life_loss", ["none", "terminal", "penalty"])
def test_lost_lives_of_a_real_game(life_loss):
    stepper = make_atari_rollout("Breakout", 4, life_loss)
    rng, lives, rows = np.random.default_rng(0), [], []
    for method in (stepper.envs.reset, stepper.envs.receive):  # Both return info last, which has the lives of the game.
        def recording(*args, method=method, **kwargs):
            returned = method(*args, **kwargs)
            lives.append(np.array(returned[-1]["lives"]))
            return returned
        setattr(stepper.envs, method.__name__, recording)
    for _ in range(400):
        row, _ = step_row(stepper, rng)
        rows.append(row)
    first = np.array([row["first"] for row in rows])[1:]
    lost = (np.diff(lives, axis=0) < 0) & ~first
    over = np.array(lives)[1:] == 0
    assert lost.sum() > 8 and first.sum() > 0
    discount, reward = (np.array([row[name] for row in rows])[1:] for name in ("discount", "reward"))
    assert (discount[lost & ~over] == (0 if life_loss == "terminal" else GAMMA)).all()
    assert (discount[~lost & ~first] == GAMMA).all() and (discount[lost & over] == 0).all()
    assert (reward[lost] == (-1 if life_loss == "penalty" else 0)).all()


# Seeds


def seed_by_hand(rows, share):
    """Return [(row, environment, seed)] of the seeds after the first ones.

    An environment gets its next seed where it resets after at least `share` vector steps since its last one.
    """
    seeded = []
    for env in range(3):
        count, since = 1, 0
        for k in range(1, len(rows)):
            if rows[k]["first"][env] and k - 1 - since >= share:
                count, since = count + 1, k
                seeded.append((k, env, int(rollout.derive_seeds(1, rollout.TRAINING, count, size=3)[env])))
    return sorted(seeded)


@pytest.mark.parametrize("period, share", [(15, 5), (17, 5), (18, 6), (2, 0)])
def test_an_environment_gets_its_next_seed_at_the_end_of_its_first_episode_after_its_share_of_steps(
        monkeypatch, period, share):
    monkeypatch.setattr(rollout, "RESEED_PERIOD", period)
    stepper = make_rollout(length=(1, 9))
    seeded = record_seeds(stepper, monkeypatch)
    rows, _ = step_rows(stepper, 80)
    assert seeded == seed_by_hand(rows, share) and {env for _, env, _ in seeded} == {0, 1, 2}
    assert len({k for k, *_ in seeded}) > 10  # They come one by one.
    assert stepper.num_seeds.tolist() == [1 + sum(env == i for _, env, _ in seeded) for i in range(3)]
    assert len(stepper.actions) == 79 - min(max(k for k, env, _ in seeded if env == i) for i in range(3)) < 20


def test_no_episode_is_cut(monkeypatch):
    monkeypatch.setattr(rollout, "RESEED_PERIOD", 6)
    stepper = make_rollout(length=(1, 9), end="truncated")
    seeded = record_seeds(stepper, monkeypatch)
    rows, episodes = step_rows(stepper, 80)
    ends = sum(row["first"].sum() for row in rows[1:]) + stepper.last.sum()
    assert len(episodes) == ends > len(seeded) > 20
    assert sum(episode["length"] for episode in episodes) + stepper.length[~stepper.last].sum() == sum(
        (~row["first"]).sum() for row in rows)


def test_the_length_of_an_episode_is_drawn_from_its_environments_seed(monkeypatch):
    monkeypatch.setattr(rollout, "RESEED_PERIOD", 15)
    stepper = make_rollout(length=(1, 99))
    seeded = record_seeds(stepper, monkeypatch)
    rows, episodes = step_rows(stepper, 600)
    for k, env, seed in seeded[:6]:
        drawn = int(np.random.default_rng(seed).integers(1, 99, endpoint=True))
        after = [row["first"][env] for row in rows[k + 1:]]
        assert after.index(True) == drawn  # steps, and then the next row that resets


def test_all_is_as_without_new_seeds_until_the_first_one(monkeypatch):
    steppers = [make_rollout(length=(1, 9), flicker=0.3, seed=2) for _ in range(2)]
    seeded = record_seeds(steppers[0], monkeypatch)
    monkeypatch.setattr(rollout, "RESEED_PERIOD", 30)
    rows, _ = step_rows(steppers[0], 40)
    monkeypatch.setattr(rollout, "RESEED_PERIOD", 10**9)
    same_rows, _ = step_rows(steppers[1], 40)
    begin = seeded[0][0]
    assert 10 < begin < 21
    for row, same in zip(rows[:begin], same_rows[:begin]):
        for name in row:
            np.testing.assert_array_equal(row[name], same[name], err_msg=name)
    obscured = [[(row["frame"] == 0).all(axis=1) for row in each] for each in (rows, same_rows)]
    np.testing.assert_array_equal(*obscured)  # Flicker goes on as if nothing had happened.


def test_where_an_environment_gets_a_seed_its_sums_state_and_history_start_anew(monkeypatch):
    monkeypatch.setattr(rollout, "RESEED_PERIOD", 15)
    stepper = make_rollout(length=(1, 9), history=3)
    seeded = record_seeds(stepper, monkeypatch)
    rows, _ = step_rows(stepper, 40)
    assert len(seeded) > 9
    for k, env, _ in seeded[:-3]:
        seen = stepper.agent.seen[k]
        assert rows[k]["first"][env] and column(rows, "frame", env)[k] == 1
        assert (seen["frames"][env, :, 0].tolist(), seen["state"][env, 0]) == ([0, 0, 1], 1)
        others = [other for other in range(3) if not rows[k]["first"][other]]
        assert [seen["state"][other, 0] for other in others] == [column(rows, "frame", other)[k] for other in others]


def test_lives_of_other_environments_stay_where_one_gets_a_seed(monkeypatch):
    monkeypatch.setattr(rollout, "RESEED_PERIOD", 6)
    stepper = make_rollout(life_loss="terminal", length=(1, 9), end="truncated", lives=9, life_length=2)
    rows, _ = step_rows(stepper, 80)
    for env in range(3):
        for row in rows:
            if not row["first"][env]:  # A life is lost at each even frame.
                assert row["discount"][env] == (GAMMA if row["frame"][env, 0] % 2 else 0)
    assert stepper.num_seeds.min() > 5


def test_runs_of_other_seeds_share_no_seeds(monkeypatch):
    monkeypatch.setattr(rollout, "RESEED_PERIOD", 3)
    seeds = []
    for seed in (1, 2, 1):
        stepper = make_rollout(seed=seed, length=2)
        reset = stepper.envs.reset

        def recording_reset(*, seed, reset=reset):
            seeds.append(seed.tolist())
            return reset(seed=seed)
        monkeypatch.setattr(stepper.envs, "reset", recording_reset)
        seeded = record_seeds(stepper, monkeypatch)
        step_rows(stepper, 8)
        seeds[-1] += [seed for *_, seed in seeded]
    assert seeds[0] == seeds[2]
    different = seeds[0] + seeds[1]
    assert len(set(different)) == len(different) == 18
    assert all(0 <= seed < 2**31 for seed in different)


def test_evaluations_and_training_never_share_seeds():
    keys = [(1, stream, count) for stream in (rollout.TRAINING, rollout.EVALUATION) for count in range(50)]
    seeds = np.concatenate([rollout.derive_seeds(*key, size=10) for key in keys])
    assert len(np.unique(seeds)) == 1000


# Restoring


def assert_goes_on_after_restoring(one, make_stepper, num_steps=20):
    """Restore a rollout into a second one, and this into a third; assert that the third goes on as the first."""
    between, two = make_stepper(), make_stepper()
    assert restore_rollout(one, between) and restore_rollout(between, two)
    rows, episodes = step_rows(one, num_steps)
    same_rows, same_episodes = step_rows(two, num_steps)
    assert episodes == same_episodes and episodes
    for row, same in zip(rows, same_rows):
        for name in row:
            np.testing.assert_array_equal(row[name], same[name], err_msg=name)
    for seen, same in zip(one.agent.seen[1 - num_steps:], two.agent.seen[1 - num_steps:]):
        for name in seen:
            np.testing.assert_array_equal(seen[name], same[name], err_msg=name)


@pytest.mark.parametrize("num_steps", range(1, 40))
def test_a_restored_rollout_goes_on_as_if_nothing_had_happened(monkeypatch, num_steps):
    """Restore at every row: before, at and after the rows in which one environment gets a seed."""
    monkeypatch.setattr(rollout, "RESEED_PERIOD", 15)
    make_stepper = lambda: make_rollout(length=(1, 9), flicker=0.3, lives=3, life_loss="terminal", history=3)
    one = make_stepper()
    step_rows(one, num_steps)
    assert_goes_on_after_restoring(one, make_stepper, num_steps=40)


@pytest.mark.parametrize("num_steps, num_seeds", [(32, 1), (33, 2), (40, 2)])  # Row 32 resets after two episodes.
def test_a_restored_game_goes_on_as_if_nothing_had_happened(monkeypatch, num_steps, num_seeds):
    monkeypatch.setattr(rollout, "RESEED_PERIOD", 60)
    make_stepper = lambda: make_atari_rollout("Pong", max_episode_frames=60, sticky=0.25, noops=30, flicker=0.5)
    one = make_stepper()
    step_rows(one, num_steps)
    assert one.num_seeds.tolist() == [num_seeds] * 2
    assert_goes_on_after_restoring(one, make_stepper)


def test_a_restored_game_whose_environments_got_seeds_one_by_one_goes_on_as_well(monkeypatch):
    monkeypatch.setattr(rollout, "RESEED_PERIOD", 200)
    make_stepper = lambda: make_atari_rollout("Breakout", life_loss="terminal", sticky=0.25, noops=30, flicker=0.5)
    one = make_stepper()
    step_rows(one, 200)
    assert one.num_seeds.tolist() == [2, 2] and 100 < one.seeded_at[0] < one.seeded_at[1] - 10
    assert_goes_on_after_restoring(one, make_stepper, num_steps=250)


@pytest.mark.parametrize("env", ["AssaultCrafted-v0", "BowlingShaped-v0"])
def test_a_restored_variant_goes_on_as_if_nothing_had_happened(monkeypatch, env):
    monkeypatch.setattr(rollout, "RESEED_PERIOD", 60)
    make_stepper = lambda: make_atari_rollout(env, max_episode_frames=60, sticky=0.25, noops=30)
    one = make_stepper()
    step_rows(one, 40)
    assert one.num_seeds.tolist() == [2, 2]
    assert_goes_on_after_restoring(one, make_stepper)


def test_after_an_environment_that_is_no_function_of_seed_and_actions_all_begin_anew():
    one = make_rollout(length=5, lawless=True)
    step_rows(one, 8)
    two = make_rollout(length=5, lawless=True)
    assert not restore_rollout(one, two) and two.reset_due
    (row,), episodes = step_rows(two, 1)
    assert row["first"].all() and episodes == [] and two.num_seeds.tolist() == [2, 2, 2]
    _, episodes = step_rows(two, 6)
    assert [episode["length"] for episode in episodes] == [5] * 3
