"""Write the acting step of a run's agent for programs without Keras, as ONNX or as a SavedModel of TensorFlow.

    python export.py runs/Pong-DRQN-s1 --out=pong.onnx       needs requirements-export.txt
    python export.py runs/Pong-DRQN-s1 --out=pong            a folder with a SavedModel

The argument is the directory of a run; default: the newest under runs/. The step is

    frames [N, H, ...], state_0, ...  ->  q_values float32[N, A], next_state_0, ...

Frames are as the agent sees them: uint8[84, 84] for screens, uint8[84, 84, 3] with --color, float32[D] for vectors, the
newest of H last. There are as many states as the network has, none without memory. They are float32[N, units], and zero
where an episode begins. The action is that of the largest Q-value. All is computed in float32.

A network that sees the action and the reward before has one more input, previous float32[N, 2]: the action, counted
from 1, and tanh of the reward; zeros where an episode begins.
"""

import pathlib
import sys
from typing import Any

from launch import start
from launch.parsing import define_enum, run_script

from absl import flags

import loading
from storage import files, reading


def define_flags() -> flags.FlagValues:
    """Return the flags of this script with their defaults."""
    values = flags.FlagValues()
    here: dict[str, Any] = dict(flag_values=values, module_name="export")
    define_enum("checkpoint", "best", ["best", "last"], "weights of the best evaluation, or of the newest checkpoint",
                **here)
    flags.DEFINE_string("out", None, "a path ending in .onnx, or a new folder for a SavedModel", **here)
    return values


def export(run_dir: str | pathlib.Path, checkpoint: str, out: str | pathlib.Path) -> Any:  # agent.Agent
    """Write the acting step of a run; return the agent that it is of.

    Raises:
        ValueError: the run cannot be loaded, or nothing can be written at `out`.
    """
    out = pathlib.Path(out)
    if (backend := start.backend_name()) != "tensorflow":
        raise ValueError(f"the backend is {backend}, and TensorFlow alone exports; expected KERAS_BACKEND=tensorflow, "
                         "which reads the weights of either")
    if out.suffix != ".onnx" and out.exists():
        raise ValueError(f"--out={out} is there already; expected a new folder, or a path ending in .onnx")
    # Blank screens are skipped where a network is trained with flicker; an exported one computes them like the others.
    agent = loading.load(run_dir, checkpoint, precision="float32", flicker=0.0)
    import backends
    try:
        if out.suffix == ".onnx":
            with files.written_whole(out) as aside:
                backends.export_acting(agent.online_network, aside)
        else:
            files.check_writable(out)
            backends.export_acting(agent.online_network, out)
    except ImportError as error:
        raise ValueError(f"--out={out} needs a package that is not installed ({error}); expected pip install -r "
                         "requirements-export.txt, or a folder for a SavedModel") from error
    return agent


def export_run(values: flags.FlagValues, runs: list[str]) -> None:
    """Export the one run that is given, or the newest, and print the shapes of its acting step."""
    if len(runs) > 1:
        raise ValueError(f"{len(runs)} runs were given; expected one")
    if not values.out:
        raise ValueError("no --out was given; expected a path ending in .onnx, or a new folder for a SavedModel")
    run_dir = runs[0] if runs else reading.newest_run()
    network = export(run_dir, values.checkpoint, values.out).online_network
    states = "".join(f", state_{i} [N, {size}]" for i, size in enumerate(network.core.state_sizes))
    states += ", previous [N, 2]" if network.sees_previous else ""
    print(f"{values.out} holds the acting step of {run_dir}: frames {network.frame_dtype}"
          f"{['N', network.history, *network.frame_shape]}{states}".replace("'", ""))


def main(arguments: list[str]) -> int:
    """Return the exit code: 0, or 2 for bad input."""
    values = define_flags()
    return run_script("export", __doc__, values, arguments, lambda runs: export_run(values, runs))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
