"""Probe how much an LSTM's state knows of what the flicker hides, beside the same probes on what was last seen.

    python -m benchmarks.probe --run_dir=runs/CartPole-v1-DRQN-flicker=0.5-s1
    python -m benchmarks.probe --run_dir runs/flickering/s* --episodes=100 --out=results/probe   seeds of one experiment

Plays the episodes that evaluate.py would play: with each run's best weights, its flicker and its evaluation epsilon. A
probe is a ridge regression. It maps standardised features to the variables of the environment at that step, which the
agent is never told:

    LSTM state              h and c after the frame of this step
    untrained LSTM state    the same of the network before it learned: what recurrence alone keeps
    last seen               the last frame that was not obscured
    last seen, age          that frame, the agent steps since, and their products, so that a probe can extrapolate

Episodes are split: 60% fit a probe, 20% choose its penalty, and the rest gives R^2: 1 is perfect, 0 is the mean. R^2 is
reported over all steps and over the steps whose frame was obscured. The few steps before the first frame that is seen
do not count. Writes <out>.csv, <out>.md, <out>.png and <out>.svg. Known variables: CartPole's state, of any environment
around it, and Pong's ball and paddles.
"""

import argparse
import pathlib
import sys

import matplotlib
import numpy as np
import scipy.linalg
from matplotlib.figure import Figure

from analysis import drawing, statistics
from benchmarks import hidden
from benchmarks.timings import ROOT
from storage import files, reading

COLUMNS = "run seed target features subset r2 samples".split()
FEATURES = {  # -> colour: a pair of oranges that remember, a pair of blues that do not
    "LSTM state": drawing.COLOURS["DRQN"], "untrained LSTM state": "#E69F00",
    "last seen": drawing.COLOURS["DQN"], "last seen, age": "#56B4E9"}
SUBSETS = {"obscured": "steps with an obscured frame", "all": "all steps"}
PENALTIES = np.logspace(-6, 1, 15)  # per sample, so in units of a standardised feature's variance
NUM_COMPONENTS, MAX_FITTED_FRAMES = 512, 4000  # principal components of images, and the frames that they are fitted to
FLOOR = -0.2  # of the plots: far below 0, the number says more than a bar


def find_last_seen(obscured, episode):
    """Return int64[S]: at each step, the step of the newest frame that was seen; -1 before the first of its episode.

    ```
    obscured     1  0  1  1  0 | 1  0
    last seen   -1  1  1  1  4 |-1  6
    ```
    """
    steps = np.arange(len(obscured))
    newest = np.maximum.accumulate(np.where(obscured, -1, steps))
    return np.where((newest >= 0) & (episode[newest] == episode), newest, -1)


def split_episodes(episode, seed=0):
    """Return masks bool[S] of whole episodes: 60% to fit, 20% to choose the penalty, 20% to test; at least one each.

    Args:
        episode: int64[S], the episode of each step.
        seed: of the shuffle.
    """
    shuffled = np.random.default_rng(seed).permutation(np.unique(episode))
    fifth = max(1, round(len(shuffled) / 5))
    return [np.isin(episode, part) for part in (shuffled[2 * fifth:], shuffled[fifth:2 * fifth], shuffled[:fifth])]


def fit_ridge(features, targets, penalties):
    """Return weights float64[P, D, K]: for each penalty the minimum of

    sum((features @ weights - targets)^2) + penalty * sum(weights^2).
    """
    gram, product = features.T @ features, features.T @ targets
    solve = lambda penalty: scipy.linalg.solve(gram + penalty * np.eye(len(gram)), product, assume_a="pos")
    return np.stack([solve(penalty) for penalty in penalties])


def r_squared(targets, predictions):
    """Return float64[K]: the share of each target's variance that predictions [S, K] explain.

    Below 0, predictions are worse than the mean.
    """
    return 1 - ((targets - predictions) ** 2).sum(axis=0) / ((targets - targets.mean(axis=0)) ** 2).sum(axis=0)


def predict(features, targets, fit, choose):
    """Fit a linear probe and return its predictions float64[S, K] for every step.

    Args:
        features: [S, D], standardised.
        targets: [S, K].
        fit: bool[S], the steps that determine the weights.
        choose: bool[S], the steps that determine each target's penalty.
    """
    mean = targets[fit].mean(axis=0)
    weights = fit_ridge(features[fit], targets[fit] - mean, PENALTIES * fit.sum())
    best = np.argmax([r_squared(targets[choose], features[choose] @ one + mean) for one in weights], axis=0)  # [K]
    return features @ np.stack([weights[best[k], :, k] for k in range(len(best))], axis=1) + mean


def standardise(features, fit, axis=0):
    """Return float64[S, D] with mean 0 and variance 1 over the steps `fit` bool[S].

    The variance is each feature's, or of all together with axis=None.
    """
    centered = features - features[fit].mean(axis=0, dtype=float)
    scale = centered[fit].std(axis=axis)
    return centered / np.where(scale > 0, scale, 1)


def project_images(frames, fit):
    """Return float64[S, 512]: coordinates of images [S, ...] along the principal components of steps `fit` int64[F].

    An LSTM of 256 units gives a probe 512 features, h and c; so images give as many. Twice as many predict Pong no
    better.
    """
    pixels = frames.reshape(len(frames), -1)
    fit = fit[np.linspace(0, len(fit) - 1, min(len(fit), MAX_FITTED_FRAMES)).astype(int)]
    mean = pixels[fit].mean(axis=0)
    centered = pixels[fit] - mean
    size = min(NUM_COMPONENTS, len(fit))
    _, vectors = scipy.linalg.eigh(centered @ centered.T, subset_by_index=(len(fit) - size, len(fit) - 1))
    basis = np.linalg.qr(centered.T @ vectors)[0]  # [7056, 512]; of RGB three times as many pixels
    return np.concatenate([(part - mean) @ basis for part in np.array_split(pixels, 1 + len(pixels) // 10_000)])


def add_age(seen, age):
    """Return features [S, 2D+1] of `seen` [S, D] and `age` [S, 1].

    At a constant speed since then, positions are linear functions of them.
    """
    return np.hstack([seen, age, seen * age])


def probe_steps(names, steps):
    """Fit and test every probe.

    Args:
        names: of the targets.
        steps: as hidden.record_episodes returns them.

    Returns:
        A dict(target, features, subset, r2, samples) for each probe.
    """
    seen_at = find_last_seen(steps["obscured"], steps["episode"])
    counts = steps["defined"] & (seen_at >= 0)
    fit, choose, test = (part & counts for part in split_episodes(steps["episode"]))
    if not (fit.any() and choose.any() and test.any()):
        num_episodes = len(np.unique(steps["episode"]))
        raise ValueError(f"{num_episodes} episodes were played, and some part of them has no step to probe; "
                         "expected more --episodes")
    seen, images = steps["frame"], steps["frame"].ndim > 2
    if images:
        seen = project_images(seen, np.flatnonzero(fit & ~steps["obscured"]))
    # Pixels have one unit: to blow up those that rarely change predicts less well.
    seen = standardise(seen[seen_at], fit, axis=None if images else 0)
    age = standardise((np.arange(len(seen)) - seen_at)[:, None], fit)
    trained, untrained = (standardise(steps[name], fit) for name in ("state", "untrained"))
    features = dict(zip(FEATURES, (trained, untrained, seen, add_age(seen, age))))
    rows = []
    for kind, values in features.items():
        predictions = predict(values, steps["targets"], fit, choose)
        for subset in SUBSETS:
            part = test & steps["obscured"] if subset == "obscured" else test
            if part.sum() > 1:  # One step has no variance to explain.
                rows += [dict(target=name, features=kind, subset=subset, r2=float(r2), samples=int(part.sum()))
                         for name, r2 in zip(names, r_squared(steps["targets"][part], predictions[part]))]
    return rows


def select_r2(rows, target, features, subset):
    """Return R^2 of one probe, a number for each seed."""
    return [row["r2"] for row in rows if (row["target"], row["features"], row["subset"]) == (target, features, subset)]


def unique_values(rows, column):
    return list(dict.fromkeys(row[column] for row in rows))


def format_table(rows):
    """Return Markdown: held-out R^2 of every target, the mean over seeds, from three on with its 95% interval."""
    names = ["target", "subset", *(f"{kind}, R²" for kind in FEATURES)]
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for target in unique_values(rows, "target"):
        for subset in unique_values(rows, "subset"):
            cells = []
            for kind in FEATURES:
                seeds = select_r2(rows, target, kind, subset)
                mean, low, high = statistics.mean_interval(seeds)
                # An interval of two seeds says nothing.
                cells.append(f"{mean:.3f} [{low:.3f}, {high:.3f}]" if len(seeds) > 2 else f"{mean:.3f}")
            lines.append(f"| {target} | {subset} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw_figure(rows, title):
    """Return the figure: a panel per subset, a group of bars per target, and a bar per kind of features.

    A bar is the mean over seeds; the seeds are dots.
    """
    targets, subsets, runs = (unique_values(rows, column) for column in ("target", "subset", "run"))
    width = 0.8 / len(FEATURES)
    with matplotlib.rc_context(drawing.STYLE):
        figure = Figure(layout="constrained", figsize=(2 * drawing.WIDTH, 0.6 + 1.7 * len(subsets)))
        panels = figure.subplots(len(subsets), squeeze=False, sharex=True, sharey=True)[:, 0]
        for axes, subset in zip(panels, subsets):
            for i, (kind, colour) in enumerate(FEATURES.items()):
                for j, target in enumerate(targets):
                    x = j + (i - (len(FEATURES) - 1) / 2) * width
                    draw_bar(axes, x, width, select_r2(rows, target, kind, subset), colour, kind if j == 0 else None)
            axes.axhline(0, color="black", linewidth=0.6)
            axes.set(title=SUBSETS[subset], ylabel="held-out R²", xticks=range(len(targets)), xticklabels=targets)
            axes.grid(axis="x", visible=False)
            axes.tick_params(axis="x", length=0)
        lowest = min(row["r2"] for row in rows)
        panels[0].set_ylim(max(FLOOR, min(lowest, 0) * 1.1), 1.08)
        figure.suptitle(title, fontsize=9)
        handles, labels = panels[0].get_legend_handles_labels()
        interval = ", and its 95% interval." if len(runs) > 2 else "."
        text = f"Linear probes: the mean over {len(runs)} seeds, which are dots{interval}"
        figure.legend(handles, labels, loc="outside lower center", ncols=len(FEATURES), frameon=False,
                      title="Linear probes of one seed." if len(runs) == 1 else text, title_fontsize=7)
    return figure


def draw_bar(axes, x, width, seeds, colour, label):
    """Draw the mean of `seeds`, R^2 of each, as a bar at `x`, with dots, interval and number."""
    mean, low, high = statistics.mean_interval(seeds)
    axes.bar(x, max(mean, FLOOR), 0.92 * width, color=colour, label=label)
    if len(seeds) > 2:
        axes.plot((x, x), np.clip((low, high), FLOOR, 1), color="black", linewidth=0.8)
    if len(seeds) > 1:
        axes.plot([x] * len(seeds), np.maximum(seeds, FLOOR), "o", markersize=1.8, color="black", alpha=0.6,
                  linewidth=0)
    top = min(max(0, *seeds, high if len(seeds) > 2 else 0), 1)
    axes.annotate(f"{mean:.2f}".replace("-", "\N{MINUS SIGN}"), (x, top), (0, 1.5),
                  textcoords="offset points", ha="center", va="bottom", fontsize=5.5)


def probe_runs(options):
    """Probe every run, print the table, and write the files.

    Raises:
        ValueError: the runs are not seeds of one experiment, or cannot be probed.
    """
    if options.episodes < 3:
        raise ValueError(f"--episodes={options.episodes} was given; expected at least 3: to fit a probe, to choose its "
                         "penalty, to test")
    first = reading.read_config(options.run_dir[0])["settings"]
    for directory in options.run_dir[1:]:
        settings = reading.read_config(directory)["settings"]
        for name in "network", "env", "flicker":
            if settings[name] != first[name]:
                raise ValueError(f"{directory} has --{name}={settings[name]} and {options.run_dir[0]} has "
                                 f"{first[name]}; expected seeds of one experiment")
    pathlib.Path(options.out).parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for directory in options.run_dir:
        settings, names, steps = hidden.record_episodes(directory, options.episodes)
        rows += [dict(run=str(directory), seed=settings["seed"]) | row for row in probe_steps(names, steps)]
    files.write_csv(f"{options.out}.csv", COLUMNS, rows)
    pathlib.Path(f"{options.out}.md").write_text(format_table(rows))
    title = f"What the state of {first['network']} knows: {first['env']}"
    if first["flicker"]:
        title += f", flicker {first['flicker']:g}"
    drawing.save_figure(draw_figure(rows, title), options.out)
    print(format_table(rows), end="")
    print(f"Written: {options.out}.csv, .md, .png and .svg.")


def main(arguments=None):
    """Return the exit code: 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run_dir", nargs="+", action="extend", required=True,
                        help="directories of runs that differ in their seed")
    parser.add_argument("--episodes", type=int, default=100, help="of each run; of Pong, 6 suffice for a look")
    parser.add_argument("--out", default=str(ROOT / "results" / "probe"),
                        help="path to which .csv, .md, .png and .svg are added")
    options = parser.parse_args(arguments)
    try:
        probe_runs(options)
    except (ValueError, OSError) as error:
        print(f"probe.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
