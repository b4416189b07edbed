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

import matplotlib  # noqa: E402
import numpy as np  # noqa: E402
import scipy.linalg  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from analysis import (
    drawing,  # noqa: E402
    statistics,  # noqa: E402
)
from benchmarks import hidden  # noqa: E402
from storage import reading  # noqa: E402

COLUMNS = "run seed target features subset r2 samples".split()
FEATURES = {  # -> colour: a pair of oranges that remember, a pair of blues that do not
    "LSTM state": drawing.COLOURS["DRQN"], "untrained LSTM state": "#E69F00",
    "last seen": drawing.COLOURS["DQN"], "last seen, age": "#56B4E9"}
SUBSETS = {"obscured": "steps with an obscured frame", "all": "all steps"}
PENALTIES = np.logspace(-6, 1, 15)  # per sample, so in units of a standardised feature's own variance
PRINCIPAL, FITTED_FRAMES = 512, 4000  # principal components of images, and the frames that they are fitted to
FLOOR = -0.2  # of the plots: far below 0, the number says more than a bar


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
                mean, low, high = statistics.mean_interval(own)
                cells.append(f"{mean:.3f} [{low:.3f}, {high:.3f}]" if len(own) > 2 else f"{mean:.3f}")  # Of two seeds, it says nothing.
            lines.append(f"| {target} | {subset} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw(rows, title):
    """Return the figure: a panel per subset, a group of bars per target, and for each kind of features the mean over seeds, the dots."""
    targets, subsets, num_seeds = unique(rows, "target"), unique(rows, "subset"), len(unique(rows, "run"))
    width = 0.8 / len(FEATURES)
    with matplotlib.rc_context(drawing.STYLE):
        figure = Figure(layout="constrained", figsize=(2 * drawing.WIDTH, 0.6 + 1.7 * len(subsets)))
        panels = figure.subplots(len(subsets), squeeze=False, sharex=True, sharey=True)[:, 0]
        for axes, subset in zip(panels, subsets):
            for i, (kind, colour) in enumerate(FEATURES.items()):
                for j, target in enumerate(targets):
                    x, own = j + (i - (len(FEATURES) - 1) / 2) * width, scores(rows, target, kind, subset)
                    mean, low, high = statistics.mean_interval(own)
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
    first = reading.read_config(options.run_dir[0])["settings"]
    for directory in options.run_dir[1:]:
        settings = reading.read_config(directory)["settings"]
        for name in "network", "env", "flicker":
            if settings[name] != first[name]:
                raise ValueError(f"{directory} has --{name}={settings[name]} and {options.run_dir[0]} has {first[name]}; "
                                 "expected seeds of one experiment")
    pathlib.Path(options.out).parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for directory in options.run_dir:
        settings, names, steps = hidden.record(directory, options.episodes)
        rows += [dict(run=str(directory), seed=settings["seed"]) | row for row in probe(names, steps)]
    with open(f"{options.out}.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    pathlib.Path(f"{options.out}.md").write_text(table(rows))
    title = f"What the state of {first['network']} knows: {first['env']}" + (f", flicker {first['flicker']:g}" if first["flicker"] else "")
    drawing.save(draw(rows, title), options.out)
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
