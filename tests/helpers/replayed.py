"""An episode played again by other code than environments/mirror.py has."""

import contextlib
import re

import gymnasium
import numpy as np
from ale_py.vector_env import AtariVectorEnv


def replay_screens(env, seed, actions, frame_skip=4, sticky=0.0, noops=0, full_actions=False, max_episode_frames=0,
                   **_):
    """Yield the screens of one environment, before each of the actions and after the last one.

    Args:
        env: `CartPole-v1`, or an ALE game.
        seed: of its reset.
        actions: of the episode.
        frame_skip, sticky, noops, full_actions, max_episode_frames: as in config.json.
    """
    if env == "CartPole-v1":
        with contextlib.closing(gymnasium.make(env, render_mode="rgb_array")) as cartpole:
            cartpole.reset(seed=int(seed))
            yield cartpole.render()
            for action in actions:
                for _ in range(frame_skip):
                    if cartpole.step(int(action))[2]:
                        break
                yield cartpole.render()
        return
    rom = re.sub("(?!^)([A-Z])", r"_\1", env).lower()
    game = AtariVectorEnv(  # in colour and of full size
        rom, 1, grayscale=False, img_height=210, img_width=160, stack_num=1, reward_clipping=False,
        use_fire_reset=False, noop_max=noops, repeat_action_probability=sticky, full_action_space=full_actions,
        frameskip=frame_skip, max_num_frames_per_episode=max_episode_frames or 10**6)
    yield game.reset(seed=np.array([seed]))[0][0, 0].repeat(2, axis=1)
    for action in actions:
        yield game.step(np.array([action]))[0][0, 0].repeat(2, axis=1)
