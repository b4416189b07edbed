"""Measure the time that a frozen torso saves: a DRQN that trains its torso beside DRQNs on features.

    python -m benchmarks.features                 alone on the machine; writes results/features.csv and features.md

The contenders of speed.py take turns on Frostbite. One frozen torso comes from a run of this suite and has the same
convolutions as the DRQN; the other one is ResNet50. Neither has learned anything, because learned weights take the same
time.
"""

import argparse
import pathlib
import statistics
import tempfile

from benchmarks import speed, timings

UPDATE_PERIOD = 4  # agent steps per update, the default of train.py and so of contenders.py
SOURCE = """--network=DRQN --env=Frostbite --maxsteps=120 --bufflen=400 --learning_starts=100 --eval_period=100
    --eval_episodes=1 --max_episode_frames=400""".split()  # flags of the run that has the first frozen torso


def write_torsos(folder):
    """Write a short run and the weights of a ResNet50 into `folder`; return {name: value of --features}."""
    import backends  # noqa: F401 - first: it imports the backend quietly

    import keras

    import train
    train.train(train.configure([*SOURCE, f"--run_dir={folder}/run"]))
    resnet = keras.applications.ResNet50(include_top=False, pooling="avg", weights=None)
    resnet.save_weights(f"{folder}/resnet50.weights.h5")
    return {"a run's": f"{folder}/run", "ResNet50": f"resnet50:{folder}/resnet50.weights.h5"}


def torso_row(torso, answers):
    """Return a row of the table: speed, time of an update, and median time of each phase per agent step."""
    phases = {name: [1e3 * answer["phases"][name] / answer["agent_steps"] for answer in answers]
              for name in ("environment", "act", "sample", "learn")}
    updates = [UPDATE_PERIOD * milliseconds for milliseconds in phases.pop("learn")]
    return dict(torso=torso, **timings.spread("steps_per_second", speed.speeds(answers)),
                **timings.spread("update_ms", updates),
                **{f"{name}_ms_per_step": round(statistics.median(times), 3) for name, times in phases.items()})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=7, help="of each contender")
    parser.add_argument("--steps", type=int, default=160, help="agent steps a turn")
    parser.add_argument("--out", type=pathlib.Path, default=timings.ROOT / "results/features")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        starters = {"its own, trained": speed.starter("DRQN")} | {
            f"frozen, {name}": speed.starter("DRQN", features=value) for name, value in write_torsos(folder).items()}
        answers_of = speed.take_turns(starters, options.steps, options.turns)
    rows = [torso_row(torso, answers) | timings.circumstances() for torso, answers in answers_of.items()]
    timings.write_rows(options.out.with_suffix(".csv"), rows)
    table = timings.format_table(rows)
    options.out.with_suffix(".md").write_text(
        f"DRQN, batch 32, unroll 10, Frostbite; median, min and max of {options.turns} turns of {options.steps} "
        f"agent steps, on {', '.join(timings.circumstances().values())}: `python -m benchmarks.features`.\n\n{table}")
    print(table)


if __name__ == "__main__":
    main()
