"""What an LSTM's state knows of what the flicker hides: linear probes, beside the same probes on what was last seen.

    python benchmarks/probe.py --run_dir=runs/CartPole-v1-DRQN-flicker=0.5-s1
    python benchmarks/probe.py --run_dir runs/flickering/s* --episodes=100 --out=results/probe        seeds of one experiment

Plays episodes with the best weights of each run, its own flicker and evaluation epsilon, the same as evaluate.py plays. A probe is a
ridge regression from standardised features to the variables of the environment at that step, which the agent is never told:

    LSTM state              h and c after the frame of this step
    untrained LSTM state    of the run's network before it learned, over the same frames: what recurrence alone keeps
    last seen               the last frame that was not obscured
    last seen, age          that frame, the agent steps since, and their products, so that a probe can extrapolate

Episodes are split: 60% fit a probe, 20% choose its penalty, and R^2 is of the rest: 1 is perfect, 0 the mean. It is reported over all
steps and over those whose frame was obscured; the few before the first frame that is seen do not count. Writes <out>.csv, <out>.md,
<out>.png and <out>.svg. Known variables: CartPole's state, of any environment around it, and Pong's ball and paddles, from ALE's RAM.
"""

import argparse
import csv
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import backends  # noqa: E402, F401 - first: it imports the backend quietly
import ale_py  # noqa: E402
import gymnasium  # noqa: E402
import matplotlib  # noqa: E402
import numpy as np  # noqa: E402
import scipy.linalg  # noqa: E402
from gymnasium.envs.classic_control.cartpole import CartPoleEnv  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

import curves  # noqa: E402
import evaluate  # noqa: E402
import rollout  # noqa: E402
import runs  # noqa: E402
import stats  # noqa: E402

COLUMNS = "run seed target features subset r2 samples".split()
FEATURES = {  # -> colour: a pair of oranges that remember, a pair of blues that do not
    "LSTM state": curves.COLOURS["DRQN"], "untrained LSTM state": "#E69F00",
    "last seen": curves.COLOURS["DQN"], "last seen, age": "#56B4E9"}
SUBSETS = {"obscured": "steps with an obscured frame", "all": "all steps"}
PENALTIES = np.logspace(-6, 1, 15)  # per sample, so in units of a standardised feature's own variance
PRINCIPAL, FITTED_FRAMES = 512, 4000  # principal components of images, and the frames that they are fitted to
FLOOR = -0.2  # of the plots: far below 0, the number says more than a bar


class CartPole:
    """The state of each CartPole, whatever its observations leave out."""

    targets = ("position", "velocity", "angle", "angular velocity")

    def __init__(self, envs):
        self._envs = envs.unwrapped.envs

    def read(self):
        """Return float64[N, 4], as of the newest frames."""
        return np.array([env.unwrapped.state for env in self._envs], float)

    @staticmethod
    def split(hidden, _):
        """Return the targets float64[S, 4] of steps, and whether they are defined, bool[S]."""
        return hidden, np.ones(len(hidden), bool)


class Pong(gymnasium.vector.VectorWrapper):
    """An AtariVectorEnv, which keeps its consoles' memory to itself, beside emulators that repeat the first episode of each environment.

    They act until their frame counter is the other's, as wrappers.AtariTwin does; every reward is compared.

    Reference: the addresses are those of Anand et al. 2019 (Atari ARI).
    """

    targets = ("ball x", "ball y", "ball velocity x", "ball velocity y", "paddle y", "opponent y")
    BALL_X, BALL_Y, PADDLE_Y, OPPONENT_Y = ADDRESSES = [49, 54, 51, 50]

    def __init__(self, envs, sticky):
        super().__init__(envs)
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        self._consoles = [ale_py.ALEInterface() for _ in range(envs.num_envs)]
        for console in self._consoles:
            console.setFloat("repeat_action_probability", sticky)
        self._actions = envs.unwrapped.ale.get_action_set()

    def reset(self, *, seed, options=None):
        observations, info = self.env.reset(seed=seed, options=options)
        for console, own in zip(self._consoles, seed):
            console.setInt("random_seed", int(own))
            console.loadROM(ale_py.roms.get_rom_path("pong"))
            console.reset_game()
        self._playing = np.ones(self.num_envs, bool)
        self._follow(np.zeros(self.num_envs, int), info)  # no-ops
        return observations, info

    def step(self, actions):
        observations, reward, terminated, truncated, info = self.env.step(actions)
        own = self._follow(actions, info)
        assert (own == reward)[self._playing].all(), "the emulators that are read have left the episodes that are played"
        self._playing &= ~(terminated | truncated)
        return observations, reward, terminated, truncated, info

    def _follow(self, actions, info):
        reward = np.zeros(self.num_envs)
        for i in np.flatnonzero(self._playing):
            while self._consoles[i].getEpisodeFrameNumber() < info["episode_frame_number"][i]:
                reward[i] += self._consoles[i].act(self._actions[actions[i]])
        return reward

    def read(self):
        """Return float64[N, 4]: ball x and y, paddle y, opponent y, as of the newest screens, in the console's own coordinates."""
        return np.array([console.getRAM()[self.ADDRESSES] for console in self._consoles], float)

    @staticmethod
    def split(hidden, episode):
        """Return the targets float64[S, 6] of steps, and whether they are defined, bool[S]: the ball is, and was a step before.

        ```
        ball y       0    0  130  134  138    0          between rallies there is no ball, and its y is 0
        velocity y             -    4    4    -          per agent step
        ```
        """
        ball, there = hidden[:, :2], (hidden[:, :2] > 0).all(axis=1)
        velocity = np.diff(ball, axis=0, prepend=ball[:1])
        follows = np.append(False, there[:-1] & (episode[1:] == episode[:-1]))
        return np.hstack([ball, velocity, hidden[:, 2:]]), there & follows


class Recorder:
    """An agent around an agent and its untrained like, which notes at each step what both remember, what was seen, and what is hidden.

    Args:
        agent: what acts.
        untrained: advances its state over the same frames.
        envs: wrappers.Flicker.
        read: returns the hidden variables [N, ...] of the newest frames.
    """

    def __init__(self, agent, untrained, envs, read):
        self.agent, self.untrained, self.envs, self.read, self._rows = agent, untrained, envs, read, []

    def initial_state(self, num_envs):
        return [*self.agent.initial_state(num_envs), *self.untrained.initial_state(num_envs)]

    def act(self, frames, state, first, epsilon, rng):
        half = len(state) // 2
        actions, own = self.agent.act(frames, state[:half], first, epsilon, rng)
        _, other = self.untrained.q_values(frames, state[half:], first)
        obscured = (frames[:, -1] != self.envs.unobscured).reshape(len(first), -1).any(axis=1)
        self._rows.append(dict(episode=np.arange(len(first)), frame=frames[:, -1], obscured=obscured, hidden=self.read(),
                               state=np.hstack([np.asarray(s) for s in own]), untrained=np.hstack([np.asarray(s) for s in other])))
        return actions, [*own, *other]

    def steps(self, lengths):
        """Return {name: array [S, ...]} over the agent steps of all episodes of these lengths, one episode after the other."""
        played = np.arange(len(self._rows)) < np.array(lengths)[:, None]  # [N, T]; those that have ended play on unseen.
        return {name: np.stack([row[name] for row in self._rows], axis=1)[played] for name in self._rows[0]}


def last_seen(obscured, episode):
    """Return int64[S]: the step whose frame is the last that was seen at each step; -1 where none of its episode was yet.

    ```
    obscured     1  0  1  1  0 | 1  0
    last seen   -1  1  1  1  4 |-1  6
    ```
    """
    steps = np.arange(len(obscured))
    newest = np.maximum.accumulate(np.where(obscured, -1, steps))
    return np.where((newest >= 0) & (episode[newest] == episode), newest, -1)


def split_episodes(episode, seed=0):
    """Return three masks bool[S] of whole episodes: 60% to fit, 20% to choose the penalty, 20% to test, at least one each."""
    shuffled = np.random.default_rng(seed).permutation(np.unique(episode))
    fifth = max(1, round(len(shuffled) / 5))
    return [np.isin(episode, part) for part in (shuffled[2 * fifth:], shuffled[fifth:2 * fifth], shuffled[:fifth])]


def ridge(features, targets, penalties):
    """Return weights float64[P, D, K] that minimise sum((features @ weights - targets)^2) + penalty * sum(weights^2) for each penalty."""
    gram, product = features.T @ features, features.T @ targets
    return np.stack([scipy.linalg.solve(gram + penalty * np.eye(len(gram)), product, assume_a="pos") for penalty in penalties])


def r_squared(targets, predictions):
    """Return float64[K], the share of each target's variance that predictions [S, K] explain; below 0 they are worse than the mean."""
    return 1 - ((targets - predictions) ** 2).sum(axis=0) / ((targets - targets.mean(axis=0)) ** 2).sum(axis=0)


def predict(features, targets, fit, choose):
    """Fit a linear probe and return its predictions float64[S, K] for every step.

    Args:
        features: [S, D], standardised.
        targets: [S, K].
        fit, choose: bool[S], the steps that determine the weights, and for each target the penalty.
    """
    mean = targets[fit].mean(axis=0)
    weights = ridge(features[fit], targets[fit] - mean, PENALTIES * fit.sum())
    best = np.argmax([r_squared(targets[choose], features[choose] @ w + mean) for w in weights], axis=0)  # [K]
    return features @ np.stack([weights[best[k], :, k] for k in range(len(best))], axis=1) + mean


def standardise(features, fit, axis=0):
    """Return float64[S, D] whose mean over the steps `fit` bool[S] is 0, and whose variance is 1: of each, or overall with axis=None."""
    centered = features - features[fit].mean(axis=0, dtype=float)
    scale = centered[fit].std(axis=axis)
    return centered / np.where(scale > 0, scale, 1)


def principal_components(frames, fit):
    """Return float64[S, 512], the coordinates of images [S, 84, 84] along the principal components of those in `fit` int64[F].

    Of an LSTM's 256 units a probe has 512 features, h and c; so it has of pixels: twice as many predict Pong's no better.
    """
    pixels = frames.reshape(len(frames), -1)
    fit = fit[np.linspace(0, len(fit) - 1, min(len(fit), FITTED_FRAMES)).astype(int)]
    mean = pixels[fit].mean(axis=0)
    centered = pixels[fit] - mean
    size = min(PRINCIPAL, len(fit))
    _, vectors = scipy.linalg.eigh(centered @ centered.T, subset_by_index=(len(fit) - size, len(fit) - 1))
    basis = np.linalg.qr(centered.T @ vectors)[0]  # [7056, 512]
    return np.concatenate([(part - mean) @ basis for part in np.array_split(pixels, 1 + len(pixels) // 10_000)])


def with_age(seen, age):
    """Return the features [S, 2D+1], for `seen` [S, D] and `age` [S, 1], of which a constant speed since then makes linear functions."""
    return np.hstack([seen, age, seen * age])


def record(directory, episodes):
    """Play episodes of a run.

    Returns:
        settings, names of the targets, and {name: array [S, ...]} over all agent steps: episode, frame, obscured, state, untrained,
        targets, and whether these are `defined`.

    Raises:
        ValueError: the run cannot be played, its network has no state, or what its environment hides is unknown.
    """
    values = evaluate.define_flags()
    values(["evaluate.py", f"--run_dir={directory}", f"--episodes={episodes}"])
    directory, settings, envs, agent, _ = evaluate.load(values)
    if not agent.initial_state(1):
        raise ValueError(f"{directory} is a run of {settings['network']}, which has no state to probe; expected one of DRQN")
    if envs.is_atari and "pong" in settings["env"].lower():
        envs.env = hidden = Pong(envs.env, settings["sticky"])
    elif not envs.is_atari and isinstance(envs.unwrapped.envs[0].unwrapped, CartPoleEnv):
        hidden = CartPole(envs)
    else:
        raise ValueError(f"{directory} is a run on {settings['env']}, whose hidden variables are unknown; expected CartPole or Pong")
    recorder = Recorder(agent, rollout.make_agent(settings, envs), envs, hidden.read)
    played = rollout.evaluate(recorder, envs, settings["history"], settings["eval_epsilon"], seed=0, evaluation=0)
    steps = recorder.steps([episode["length"] for episode in played])
    targets, defined = hidden.split(steps.pop("hidden"), steps["episode"])
    envs.close()
    print(f"{directory}: mean return {np.mean([episode['episode_return'] for episode in played]):.1f} over {episodes} episodes, "
          f"{len(defined)} agent steps, {steps['obscured'].mean():.0%} obscured", flush=True)
    return settings, hidden.targets, steps | dict(targets=targets, defined=defined)


def probe(names, steps):
    """Return a dict(target, features, subset, r2, samples) for each probe of the steps that `record` returned."""
    seen_at = last_seen(steps["obscured"], steps["episode"])
    counts = steps["defined"] & (seen_at >= 0)
    fit, choose, test = (part & counts for part in split_episodes(steps["episode"]))
    if not (fit.any() and choose.any() and test.any()):
        raise ValueError(f"{len(np.unique(steps['episode']))} episodes were played, and some part of them has no step to probe; "
                         "expected more --episodes")
    seen, images = steps["frame"], steps["frame"].ndim > 2
    if images:
        seen = principal_components(seen, np.flatnonzero(fit & ~steps["obscured"]))
    seen = standardise(seen[seen_at], fit, axis=None if images else 0)  # Pixels have one unit; to blow up the rare ones predicts less well.
    age = standardise((np.arange(len(seen)) - seen_at)[:, None], fit)
    features = dict(zip(FEATURES, (standardise(steps["state"], fit), standardise(steps["untrained"], fit), seen, with_age(seen, age))))
    rows = []
    for kind, values in features.items():
        predictions = predict(values, steps["targets"], fit, choose)
        for subset in SUBSETS:
            part = test & steps["obscured"] if subset == "obscured" else test
            if part.sum() > 1:  # One step has no variance to explain.
                rows += [dict(target=name, features=kind, subset=subset, r2=float(r2), samples=int(part.sum()))
                         for name, r2 in zip(names, r_squared(steps["targets"][part], predictions[part]))]
    return rows


def scores(rows, target, features, subset):
    return [row["r2"] for row in rows if (row["target"], row["features"], row["subset"]) == (target, features, subset)]


def unique(rows, column):
    return list(dict.fromkeys(row[column] for row in rows))


def table(rows):
    """Return Markdown: held-out R^2 of every target, the mean over seeds, from three on with its 95% interval."""
    lines = ["| target | subset | " + " | ".join(f"{kind}, R²" for kind in FEATURES) + " |", "|---" * (2 + len(FEATURES)) + "|"]
    for target in unique(rows, "target"):
        for subset in unique(rows, "subset"):
            cells = []
            for kind in FEATURES:
                own = scores(rows, target, kind, subset)
                mean, low, high = stats.mean_interval(own)
                cells.append(f"{mean:.3f} [{low:.3f}, {high:.3f}]" if len(own) > 2 else f"{mean:.3f}")  # Of two seeds, it says nothing.
            lines.append(f"| {target} | {subset} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw(rows, title):
    """Return the figure: a panel per subset, a group of bars per target, and for each kind of features the mean over seeds, the dots."""
    targets, subsets, num_seeds = unique(rows, "target"), unique(rows, "subset"), len(unique(rows, "run"))
    width = 0.8 / len(FEATURES)
    with matplotlib.rc_context(curves.STYLE):
        figure = Figure(layout="constrained", figsize=(2 * curves.WIDTH, 0.6 + 1.7 * len(subsets)))
        panels = figure.subplots(len(subsets), squeeze=False, sharex=True, sharey=True)[:, 0]
        for axes, subset in zip(panels, subsets):
            for i, (kind, colour) in enumerate(FEATURES.items()):
                for j, target in enumerate(targets):
                    x, own = j + (i - (len(FEATURES) - 1) / 2) * width, scores(rows, target, kind, subset)
                    mean, low, high = stats.mean_interval(own)
                    axes.bar(x, max(mean, FLOOR), 0.92 * width, color=colour, label=kind if j == 0 else None)
                    if len(own) > 2:
                        axes.plot((x, x), np.clip((low, high), FLOOR, 1), color="black", linewidth=0.8)
                    if len(own) > 1:
                        axes.plot([x] * len(own), np.maximum(own, FLOOR), "o", markersize=1.8, color="black", alpha=0.6, linewidth=0)
                    top = min(max(0, *own, high if len(own) > 2 else 0), 1)
                    axes.annotate(f"{mean:.2f}".replace("-", "\N{MINUS SIGN}"), (x, top), (0, 1.5),
                                  textcoords="offset points", ha="center", va="bottom", fontsize=5.5)
            axes.axhline(0, color="black", linewidth=0.6)
            axes.set(title=SUBSETS[subset], ylabel="held-out R²", xticks=range(len(targets)), xticklabels=targets)
            axes.grid(axis="x", visible=False)
            axes.tick_params(axis="x", length=0)
        lowest = min(row["r2"] for row in rows)
        panels[0].set_ylim(max(FLOOR, min(lowest, 0) * 1.1), 1.08)
        figure.suptitle(title, fontsize=9)
        handles, labels = panels[0].get_legend_handles_labels()
        text = "Linear probes of one seed." if num_seeds == 1 else (f"Linear probes: the mean over {num_seeds} seeds, which are dots"
                                                        + (", and its 95% interval." if num_seeds > 2 else "."))
        figure.legend(handles, labels, loc="outside lower center", ncols=len(FEATURES), frameon=False, title=text, title_fontsize=7)
    return figure


def measure(options):
    """Probe every run, print the table, and write everything down."""
    if options.episodes < 3:
        raise ValueError(f"--episodes={options.episodes} was given; expected at least 3: to fit a probe, to choose its penalty, to test")
    first = runs.read_config(options.run_dir[0])["settings"]
    for directory in options.run_dir[1:]:
        settings = runs.read_config(directory)["settings"]
        for name in "network", "env", "flicker":
            if settings[name] != first[name]:
                raise ValueError(f"{directory} has --{name}={settings[name]} and {options.run_dir[0]} has {first[name]}; "
                                 "expected seeds of one experiment")
    pathlib.Path(options.out).parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for directory in options.run_dir:
        settings, names, steps = record(directory, options.episodes)
        rows += [dict(run=str(directory), seed=settings["seed"]) | row for row in probe(names, steps)]
    with open(f"{options.out}.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    pathlib.Path(f"{options.out}.md").write_text(table(rows))
    title = f"What the state of {first['network']} knows: {first['env']}" + (f", flicker {first['flicker']:g}" if first["flicker"] else "")
    curves.save(draw(rows, title), options.out)
    print(table(rows), end="")
    print(f"Written: {options.out}.csv, .md, .png and .svg.")


def main(arguments=None):
    """Return the exit code: 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run_dir", nargs="+", action="extend", required=True, help="directories of runs that differ in their seed")
    parser.add_argument("--episodes", type=int, default=100, help="of each run; of Pong, 6 suffice for a look")
    parser.add_argument("--out", default=str(ROOT / "results" / "probe"), help="path to which .csv, .md, .png and .svg are added")
    options = parser.parse_args(arguments)
    try:
        measure(options)
    except (ValueError, OSError) as error:
        print(f"probe.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
