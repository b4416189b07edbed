"""Directories as training leaves them, without training."""

import json

from storage import layout

SETTINGS = dict(network="DRQN", env="CartPole-v1", maxsteps=300, seed=1, checkpoint_period=100, num_envs=8, history=1, frame_skip=1,
                flicker=0.0, units=64, unroll=10, learning_rate=0.001, sticky=None, eval_period=100, eval_episodes=2, eval_epsilon=0.05,
                backend="tensorflow")


def write_run(directory, evaluations=(), episodes=(), fresh=(), random=(), **settings):
    """Write a run: evaluations [(agent_step, episode returns)], training episodes [(agent_step, episode_return, cut)], 2 steps a second.

    Args:
        fresh: returns of the episodes that evaluate.py played with its best weights; none if empty.
        random: those of random play beside them.
    """
    directory.mkdir(parents=True)
    settings = SETTINGS | settings
    (directory / "config.json").write_text(json.dumps(dict(settings=settings)))
    skip = settings["frame_skip"]
    rows = {"eval": [(t, t * skip, k, i, r, 9, t / 2) for k, (t, returns) in enumerate(evaluations, 1) for i, r in enumerate(returns)],
            "train": [(t, t * skip, r, 9, 1, 0, cut, t / 2) for t, r, cut in episodes]}
    for name, own in rows.items():
        (directory / f"{name}.csv").write_text("".join(",".join(map(str, row)) + "\n" for row in [layout.COLUMNS[name], *own]))
    for policy, weights, epsilon, returns in (("agent", "best", settings["eval_epsilon"], fresh), ("random", "random", 1.0, random)):
        if returns:
            header = "policy,weights,episode,episode_return,length,epsilon,flicker,eval_seed"
            rows = [f"{policy},{weights},{i},{r},9,{epsilon},{settings['flicker']},0" for i, r in enumerate(returns)]
            (directory / f"episodes-{weights}.csv").write_text("\r\n".join([header, *rows, ""]))
    return directory
