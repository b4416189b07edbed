"""What a frozen torso saves: a DRQN with its own torso beside DRQNs on features; writes results/features.csv and features.md.

    python benchmarks/features.py                 alone on the machine

The contenders of speed.py take turns on Frostbite. The frozen torsos are that of a run of this suite, the same convolutions as the DRQN's
own, and ResNet50; neither has learned anything, which takes no less time.
"""

import argparse
import pathlib
import statistics
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import speed  # noqa: E402
import timings  # noqa: E402

UPDATE_PERIOD = 4  # of train.py and so of contenders.py
SOURCE = "--network=DRQN --env=Frostbite --maxsteps=120 --bufflen=400 --learning_starts=100 --eval_period=100 --eval_episodes=1".split()


def make_torsos(folder):
    """Return {name: value of --features}: a run of ours, and weights of a ResNet50, both written into `folder`."""
    import keras

    import train  # first: it imports the backend quietly
    train.train(train.configure([*SOURCE, "--max_episode_frames=400", f"--run_dir={folder}/run"]))
    keras.applications.ResNet50(include_top=False, pooling="avg", weights=None).save_weights(f"{folder}/resnet50.weights.h5")
    return {"a run's": f"{folder}/run", "ResNet50": f"resnet50:{folder}/resnet50.weights.h5"}


def row(torso, answers):
    """Return a row of the table."""
    phases = {name: [1e3 * a["phases"][name] / a["agent_steps"] for a in answers] for name in ("environment", "act", "sample", "learn")}
    updates = [UPDATE_PERIOD * t for t in phases.pop("learn")]
    return dict(torso=torso, **timings.spread("steps_per_second", speed.speeds(answers)), **timings.spread("update_ms", updates),
                **{f"{name}_ms_per_step": round(statistics.median(times), 3) for name, times in phases.items()})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=7, help="of each contender")
    parser.add_argument("--steps", type=int, default=160, help="agent steps a turn")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "results/features")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        makers = {"its own, trained": speed.ours("DRQN")} | {
            f"frozen, {name}": speed.ours("DRQN", features=value) for name, value in make_torsos(folder).items()}
        answers = speed.take_turns(makers, options.steps, options.turns)
    rows = [row(torso, own) | timings.circumstances() for torso, own in answers.items()]
    timings.write(options.out, rows)
    own = timings.table(rows)
    options.out.with_suffix(".md").write_text(
        f"DRQN, batch 32, unroll 10, Frostbite; median, min and max of {options.turns} turns of {options.steps} agent steps, on "
        f"{', '.join(timings.circumstances().values())}: `python benchmarks/features.py`.\n\n{own}")
    print(own)


if __name__ == "__main__":
    main()
