"""A burn-in and stored states: what windows hold, and that the state is carried without a gradient."""

import keras
import numpy as np
import pytest
from keras import ops

import agent as agents
import choices
from helpers.gradients import gradients_of
from helpers.tapes import NUM_ROWS, N, Tape
from helpers.windows import make_agent, make_window, weights_of
from replay import Replay

numpy = ops.convert_to_numpy
BURN_IN = 3
NETWORKS = pytest.mark.parametrize("network, history", [("DRQN", 3), ("DRQN_RNN2", 1)])


class StatefulReplay(Replay):
    """A replay whose rows get states that tell their environment and row."""

    def append(self, *args, **kwargs):
        state = [np.stack([np.arange(N), np.full(N, self.end) / 8], axis=1)] * 2
        super().append(*args, **kwargs, state=state)


def make_burning(history=1, unroll=4, sample="timestep", state_sizes=(2, 2), burn_in=BURN_IN):
    return StatefulReplay(NUM_ROWS * N, N, (2,), np.float32, history, unroll, sample, 0, state_sizes=state_sizes,
                          burn_in=burn_in)


@pytest.mark.parametrize("history", [1, 3])
@pytest.mark.parametrize("sample", ["timestep", "episode"])
def test_windows_begin_earlier_inside_their_episode_and_from_the_state_stored_there(history, sample):
    replay = make_burning(history, sample=sample)
    tape, before, shortened = Tape(replay), history - 1 + BURN_IN, 0
    for _ in range(6):
        tape.write(25)
        rows = {row.number: (env, episode, k) for env, episodes in enumerate(tape.episodes)
                for episode in episodes for k, row in enumerate(episode)}
        window = replay.sample(64)
        assert window.frames.shape == (64, before + 1 + replay.unroll, 2) and window.mask.shape == (64, replay.unroll)
        for b in range(64):
            env, episode, k = rows[window.frames[b, before, 0]]  # of the window's first transition
            for place, at in enumerate(range(k - before, k + replay.unroll + 1)):
                inside = 0 <= at < len(episode)
                assert window.frames[b, place, 0] == (episode[at].number if inside else 0)
                assert window.firsts[b, place] == (at == 0)
            assert window.mask[b].tolist() == [k + t + 1 < len(episode) for t in range(replay.unroll)]
            begins = k - BURN_IN  # where the state is put
            assert window.first[b] == (begins <= 0)
            shortened += begins < 0
            if begins > 0:
                for state in window.state:
                    assert state.dtype == np.float32 and state[b].tolist() == [env, episode[begins].row / 8]
    assert shortened > 20


@pytest.mark.parametrize("history", [1, 3])
def test_a_transition_is_drawn_if_and_only_if_its_burn_in_is_stored_or_its_episode_begins_there(history):
    replay = make_burning(history)
    tape = Tape(replay)
    tape.write(170)
    drawn = {number for _ in range(60) for number in replay.sample(64).frames[:, history - 1 + BURN_IN, 0]}
    begins_here = lambda episode: episode[0].row >= tape.end - NUM_ROWS
    deep = tape.end - NUM_ROWS + history - 1 + BURN_IN
    assert drawn == {episode[k].number for transitions in tape.transitions(1) for _, episode, k in transitions
                     if begins_here(episode) or episode[k].row >= deep}


def test_without_a_burn_in_windows_are_as_ever_but_for_their_state():
    plain, stored = (make_burning(sample="episode", state_sizes=sizes, burn_in=0) for sizes in ((), (2, 2)))
    Tape(plain, stored).write(100)
    one, other = plain.sample(32), stored.sample(32)
    assert one.firsts == other.firsts == () and one.state == () and one.first.all()
    for name in "frames action reward discount mask".split():
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert 0 < other.first.sum() < 32


@pytest.mark.parametrize("burn_in, rows", [(0, 2), (5, 7)])
def test_a_replay_too_small_for_a_burn_in_is_refused(burn_in, rows):
    make_burning(burn_in=burn_in)
    with pytest.raises(ValueError, match=f"needs at least {rows}$"):
        Replay((rows - 1) * N, N, (2,), np.float32, 1, 4, "episode", 0, burn_in=burn_in)


# In the loss


def burning_window(history, unroll=4, firsts=()):
    """Return a Window with a burn-in, of random numbers; `firsts` are (row of the batch, frame)."""
    window = make_window(3, unroll + BURN_IN, history, seed=2)
    cut = {name: getattr(window, name)[:, BURN_IN:] for name in ("action", "reward", "discount", "mask")}
    begins = np.zeros(window.frames.shape[:2], bool)
    for place in firsts:
        begins[place] = True
    return window._replace(firsts=begins, first=np.zeros(3, bool), **cut)


def without_burn_in(window, history):
    """Return the window as it is without its burn-in."""
    return window._replace(frames=window.frames[:, BURN_IN:], firsts=window.firsts[:, BURN_IN:])


def random_state(agent, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.uniform(-1, 1, s.shape).astype(np.float32) for s in agent.initial_state(3)]


def td_error(agent, window, state, burn_in, **settings):
    networks = agent.online_network, agent.target_network
    return numpy(agents.td_loss(*networks, window, state, "mse", burn_in=burn_in, **settings)[1]["td_error"])


@NETWORKS
@pytest.mark.parametrize("double", [False, True])
def test_a_window_with_a_burn_in_is_one_from_the_state_after_it(network, history, double):
    agent, window = make_agent(network, history=history), burning_window(history)
    state = random_state(agent)
    _, warm = agent.online_network(window.frames[:, :BURN_IN + history - 1], state)
    expected = td_error(agent, without_burn_in(window, history), warm, 0, double=double)
    np.testing.assert_allclose(td_error(agent, window, state, BURN_IN, double=double), expected, atol=1e-5)
    assert np.abs(td_error(agent, without_burn_in(window, history), state, 0, double=double) - expected).max() > 1e-3


def test_each_network_carries_its_own_state():
    agent, window = make_agent(), burning_window(1)
    agent.set_state({name: value + 0.1 * name.startswith("target") for name, value in agent.get_state().items()})
    state = random_state(agent)
    q_tm1 = numpy(agent.online_network(window.frames, state)[0])[:, BURN_IN:-1]
    q_t = numpy(agent.target_network(window.frames, state)[0])[:, BURN_IN + 1:]
    q_a_tm1 = np.take_along_axis(q_tm1, window.action[..., None], -1)[..., 0]
    expected = window.reward + window.discount * q_t.max(-1) - q_a_tm1
    np.testing.assert_allclose(td_error(agent, window, state, BURN_IN), expected, atol=1e-5)


@NETWORKS
def test_a_burn_in_that_begins_with_the_episode_is_shorter(network, history):
    """Row 0 of the batch begins in the burn-in's last step, row 1 with the window itself, row 2 before both."""
    agent = make_agent(network, history=history)
    begins = [history - 1 + BURN_IN - 1, history - 1 + BURN_IN]
    window = burning_window(history, firsts=list(enumerate(begins)))
    for b, place in enumerate(begins):
        window.frames[b, :place] = 0
    errors = [td_error(agent, window, random_state(agent, seed), BURN_IN) for seed in (0, 1)]
    np.testing.assert_array_equal(errors[0][:2], errors[1][:2])
    assert (errors[0][2] != errors[1][2]).all()
    for b, place in enumerate(begins):  # from zero, over the frames of the episode alone
        alone = make_window(1, window.frames.shape[1] - place - 1, history)._replace(
            frames=np.concatenate([np.zeros((1, history - 1, 3), np.float32), window.frames[b:b + 1, place:]], axis=1))
        q = [numpy(net(alone.frames, net.initial_state(1))[0])[0, -5:]
             for net in (agent.online_network, agent.target_network)]
        expected = window.reward[b] + window.discount[b] * q[1][1:].max(-1) - q[0][range(4), window.action[b]]
        np.testing.assert_allclose(errors[0][b], expected, atol=1e-5)


@NETWORKS
def test_no_gradient_reaches_the_burn_in_nor_the_stored_state(network, history):
    agent, window = make_agent(network, history=history), burning_window(history)
    state = random_state(agent)
    networks = agent.online_network, agent.target_network

    def loss_of(frames, *state):
        return agents.td_loss(*networks, window._replace(frames=frames), list(state), "mse", burn_in=BURN_IN)[0]
    frames, *states = (numpy(gradient) if gradient is not None else 0.0
                       for gradient in gradients_of(loss_of, [window.frames, *state]))
    assert not frames[:, :BURN_IN].any() and not any(np.any(gradient) for gradient in states)
    assert (frames[:, BURN_IN + history - 1:-1] != 0).any(axis=-1).all()
    moved = window.frames.copy()
    moved[:, 0] += 1
    assert float(loss_of(moved, *state)) != float(loss_of(window.frames, *state))  # The values do see it.


def test_the_update_is_that_of_a_window_from_a_given_state(monkeypatch):
    monkeypatch.setitem(choices.OPTIMIZERS, "sgd", (keras.optimizers.SGD, dict(learning_rate=1.0)))
    settings, learned = dict(optimizer="sgd", clip_norm=0.0, history=1), []
    window, agent = burning_window(1), make_agent(burn_in=BURN_IN, **settings)
    state = random_state(agent)
    _, warm = agent.online_network(window.frames[:, :BURN_IN], state)
    for learner, seen in ((agent, window._replace(state=state)),
                          (make_agent(**settings), without_burn_in(window, 1)._replace(state=list(map(numpy, warm))))):
        learner.learn(seen)
        learned.append(weights_of(learner))
    for name in learned[0]:
        np.testing.assert_allclose(learned[0][name], learned[1][name], atol=1e-5)


def test_a_network_without_memory_takes_no_part_in_a_burn_in():
    agent, window = make_agent("DQN", history=2), burning_window(2)
    garbage = window._replace(frames=window.frames.copy())
    garbage.frames[:, :BURN_IN] = np.nan
    np.testing.assert_array_equal(td_error(agent, garbage, [], BURN_IN),
                                  td_error(agent, without_burn_in(window, 2), [], 0))
