"""What the flags of train.py resolve to: the config of a run.

Nothing here imports a backend, so that a mistake is answered at once.
"""

import contextlib
import math
import pathlib
import reprlib
from collections.abc import Sequence
from typing import Any

from launch import start
from launch.parsing import parse_flags
from launch.train_flags import define_flags

import choices
import schedules
from storage import layout, strangers

BUFFLEN = 400_000  # timesteps; Hausknecht & Stone 2015
NO_SETTING = ("run_dir", "jid", "resume", "max_hours")  # not part of what a run computes
RESOLVED = "history unroll sample frame_skip learning_rate max_episode_frames".split()  # flags None, settings never
# Settings that earlier versions did not have; in their runs they are off.
LATER = """maxepisodes weights_period features init_from lr_schedule reward_scale double trace_decay start_state
           burn_in color""".split()
TYPES = dict(int=(int,), float=(int, float), bool=(bool,))  # kind of a flag -> types of its value; the others take text
UNNAMED = ("network", "env", "seed", *NO_SETTING, *layout.FREE)  # never part of a run's name as a flag of their own

EPSILON = "epsilon_begin epsilon_end epsilon_decay epsilonStep".split()
FEW_UPDATES = 1000


def configure(arguments: Sequence[str]) -> dict[str, Any]:
    """Turn command line arguments into a config: `train(configure(["--env=Pong", "--flicker=0.5"]))`.

    Returns:
        dict(settings=every flag resolved, run_dir, resume, max_hours, command).

    Raises:
        ValueError, flags.Error: one sentence on what was given and what is expected.
    """
    values = define_flags()
    rest = parse_flags(values, arguments)
    if rest:
        raise ValueError(f"the argument {rest[0]!r} is no flag; flags begin with --")
    preset, files = _read_presets(arguments)
    typed = {name for name in values if values[name].present > preset[name].present}
    _let_typed_win(values, typed)
    given, settings = values.flag_values_dict(), {}
    backend = start.backend_name()
    from environments import catalogue  # here, so that other scripts read their flags without Gymnasium
    given["env"], of_env = catalogue.describe(given["env"])
    network, optimizer, _ = (choices.find(flag, given[flag]) for flag in choices.TABLES)
    defaults = dict(history=network.history, unroll=network.unroll, sample=network.sample)
    if catalogue.shows_vectors(given["env"], of_env):
        if given["color"]:
            raise ValueError(f"--color does not apply to --env={given['env']}, whose observations are vectors; "
                             "expected an environment of pictures, or no --color")
        defaults |= _of_vectors(values, given["sample"] or network.sample)
    defaults |= of_env
    for name in ("frame_skip", "sticky", "full_actions", "noops", "max_episode_frames", "life_loss"):
        if given[name] is not None and name not in of_env:
            raise ValueError(f"--{name}={given[name]} does not apply to --env={given['env']}, which is no ALE game")
    for name in ("burn_in", "start_state"):  # A preset's mean nothing there; who types one expects something of it.
        if name in typed and given[name] not in (0, "zero") and network.core in choices.WITHOUT_MEMORY:
            raise ValueError(f"--{name}={given[name]} does not apply to --network={given['network']}, which has no "
                             f"memory; expected no --{name}, or a network that remembers, such as DRQN")
    for name, value in given.items():
        if value == "" and name not in NO_SETTING:  # A shell's variable that is not set.
            raise ValueError(f"--{name} was given without a value; expected one, or no --{name}")
        if name not in NO_SETTING:
            settings[name] = value if values[name].present else defaults.get(name, value)
    if settings["frame_skip"] is None:
        raise ValueError(f"--env={given['env']} skips a random 2 to 5 frames; expected a fixed --frame_skip, or the "
                         "game's bare name")
    if given["epsilon_decay"] is not None and given["epsilonStep"] is not None:
        raise ValueError("--epsilon_decay and --epsilonStep both set the decay of epsilon; expected one of them")
    if given["epsilon_decay"] == schedules.APEX:
        for name in ("epsilon_begin", "epsilon_end"):
            if values[name].present:
                raise ValueError(f"--{name}={given[name]} does not apply to --epsilon_decay={schedules.APEX}, which "
                                 f"gives each environment an epsilon of its own; expected no --{name}")
    if given["epsilonStep"] is None and settings["epsilon_decay"] is None:
        settings["epsilon_decay"] = "linear:1000000steps"
    if settings["learning_rate"] is None:
        settings["learning_rate"] = optimizer[1]["learning_rate"]
    if settings["lr_schedule"] == "constant":
        settings["lr_schedule"] = None  # As runs have it that were begun before there were others.
    if settings["sample"] == "priority":
        settings["start_state"] = given["start_state"] or "stored"
    if settings["sample"] == "rollout":
        if given["bufflen"] is not None:
            raise ValueError(f"--bufflen={given['bufflen']} does not apply to --sample=rollout, which keeps one "
                             "rollout and nothing else; expected no --bufflen, or another --sample")
    elif settings["bufflen"] is None:
        settings["bufflen"] = BUFFLEN
    _check(settings)
    beside = {name: value for name, value in given.items()
              if name in typed and name not in UNNAMED and value != preset[name].value}
    settings["backend"] = backend
    return dict(settings=settings, run_dir=given["run_dir"] or _name_run(files, beside, given), resume=given["resume"],
                max_hours=given["max_hours"], command=["train.py", *arguments])


def _let_typed_win(values, typed):
    """Drop flags of a preset that do not go with one that was typed on the command line."""
    is_rollout = (values.sample or getattr(choices.NETWORKS.get(values.network), "sample", None)) == "rollout"
    for winner, loser, applies in (("epsilonStep", "epsilon_decay", True), ("epsilon_decay", "epsilonStep", True),
                                   ("epsilon_decay", "epsilon_begin", values.epsilon_decay == schedules.APEX),
                                   ("epsilon_decay", "epsilon_end", values.epsilon_decay == schedules.APEX),
                                   ("sample", "bufflen", is_rollout), ("network", "bufflen", is_rollout)):
        if applies and winner in typed and loser not in typed:
            values[loser].unparse()


def _read_presets(arguments):
    """Return the flags as the files of --flagfile alone set them, and the names of these files."""
    files, preset = [], define_flags()
    for argument, following in zip(arguments, [*arguments[1:], ""]):
        name, equals, value = argument.lstrip("-").partition("=")
        if name == "flagfile" and argument.startswith("-"):
            files.append(value if equals else following)
    parse_flags(preset, [f"--flagfile={file}" for file in files])
    return preset, files


def _of_vectors(values, sample):
    """Return the defaults where observations are vectors, but for those that a given flag replaces."""
    defaults = dict(choices.VECTORS["rollout" if sample == "rollout" else "replay"])
    if sample == "priority":
        del defaults["sample"]
    for given, replaced in (("optimizer", "learning_rate"), ("epsilonStep", "epsilon_decay"),
                            ("maxepisodes", "maxsteps")):
        if values[given].present:
            defaults.pop(replaced)
    return defaults


def _check(settings):
    """Refuse settings with which a run could not learn."""
    is_rollout = settings["sample"] == "rollout"
    for limit in ("maxsteps",) if is_rollout else ("maxsteps", "bufflen"):
        if settings["learning_starts"] > settings[limit] - (limit == "maxsteps"):
            also = "" if is_rollout else f", and at most --bufflen={settings['bufflen']}"
            raise ValueError(f"--learning_starts={settings['learning_starts']} agent steps leaves no update: expected "
                             f"fewer than --maxsteps={settings['maxsteps']}{also}")
    if settings["features"] and settings["color"]:
        raise ValueError(f"--color does not apply to --features={settings['features']}, whose torso sees the screens "
                         "that it was trained on; expected one of them")
    if settings["features"] and settings["init_from"]:
        raise ValueError(f"--features={settings['features']} leaves the network without a torso that "
                         f"--init_from={settings['init_from']} could begin with; expected one of them")
    if is_rollout:
        _check_rollout(settings)
    if settings["trace_decay"] and settings["unroll"] == 1:
        raise ValueError(f"--trace_decay={settings['trace_decay']} needs windows of several transitions; expected "
                         "--unroll=2 or more, or no --trace_decay")
    if settings["sample"] in ("rollout", "sequential"):
        _check_start(settings)
    if settings["double"] and not settings["target_period"]:
        raise ValueError("--double needs a target network, and --target_period=0 has none; expected one of them")
    if settings["learning_rate"] <= 0:
        raise ValueError(f"--learning_rate={settings['learning_rate']} was given; expected a positive number")
    schedules.epsilon(**{name: settings[name] for name in EPSILON})
    schedules.learning_rate(settings["learning_rate"], settings["lr_schedule"])


def doubt(settings: dict[str, Any]) -> list[str]:
    """Return sentences on settings with which a run may be too short to learn."""
    s, doubts = settings, []
    count = dict(steps=s["maxsteps"], ep=s["maxepisodes"] or math.inf)
    decay = schedules.epsilon(**{name: s[name] for name in EPSILON})
    if decay(count) > 0.5:
        given = s["epsilon_decay"] or s["epsilonStep"]
        doubts.append(f"--maxsteps={s['maxsteps']} ends while epsilon is {decay(count):.2f}, so most actions stay "
                      f"random to the end; a shorter --epsilon_decay than {given} lets the agent play.")
    updates = max(0, s["maxsteps"] - s["learning_starts"]) // s["update_period"]
    if updates < FEW_UPDATES:
        doubts.append(f"--maxsteps={s['maxsteps']} makes {updates:,} updates, which is little to learn from; "
                      f"--learning_starts={s['learning_starts']} and --update_period={s['update_period']} set them.")
    return doubts


def _check_start(settings):
    """Refuse another start of windows whose start is given by how they follow each other."""
    sample, state, burn_in = (settings[name] for name in ("sample", "start_state", "burn_in"))
    start = dict(rollout="the acting state, which is stored", sequential="the state after the window before")[sample]
    if burn_in or state and (sample, state) != ("rollout", "stored"):
        given = f"--burn_in={burn_in}" if burn_in else f"--start_state={state}"
        raise ValueError(f"{given} does not apply to --sample={sample}, whose windows start from {start}; expected no "
                         f"{given.partition('=')[0]}, or --sample=episode, timestep or priority")


def _check_rollout(settings):
    """Refuse rollouts that cannot be dealt in whole batches and whole passes."""
    T, N, B, period = (settings[name] for name in ("unroll", "num_envs", "batch_size", "update_period"))
    if N % B:
        raise ValueError(f"--batch_size={B} does not divide --num_envs={N}; expected a divisor, since --sample=rollout "
                         "deals every environment once in each pass")
    if T * B % period:
        raise ValueError(f"--update_period={period} makes {T * B / period:g} passes over a rollout; expected a divisor "
                         f"of {T * B} = --unroll={T} times --batch_size={B}, for whole passes")


def _name_run(files, beside, given):
    """Return the default run_dir, the same for the same settings whatever the job or the machine.

    Args:
        files: of --flagfile.
        beside: {name: value} of flags typed beside them that differ.
        given: all flags.
    """
    first = [given["env"], given["network"], *(pathlib.Path(file).stem for file in files)]
    return str(pathlib.Path("runs") / layout.name_run(first, beside, given["seed"], given["jid"]))


# Back from a config.json


def check_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a config.json whole. Who made them is unknown: each must be one that its flag would take.

    Raises:
        ValueError: a setting is missing, or its flag would not take it; a sentence without its subject.
    """
    values = define_flags()
    known = {name: values[name] for name in values if name not in NO_SETTING}
    missing = [name for name in known if name not in settings and name not in LATER]
    if missing:
        raise ValueError(f"has no {missing[0]}, which every run has")
    whole = settings | {name: known[name].default for name in LATER if name not in settings}
    for name, value in whole.items():
        expected = _judge(known.get(name), name, value)
        if expected:
            raise ValueError(f"has {reprlib.repr(value)} for {strangers.escape(name)}; expected {expected}")
    return whole


def _judge(flag, name, value):
    """Return None if a flag would take a value of a config.json, else what is expected."""
    if type(value) is float and not math.isfinite(value):
        return "a finite number"
    if type(value) is int and abs(value) >= 2**63:
        return "a number below 2**63"
    if strangers.CONTROL.search(name) or isinstance(value, str) and strangers.CONTROL.search(value):
        return "text without control characters"
    if flag is None:  # the backend, or a setting of another version
        plain = (str,) if name == "backend" else (str, bool, int, float, type(None))
        return None if type(value) in plain else "text or a number"
    if value is None:
        return None if flag.default is None and name not in RESOLVED else "a value"
    kind, parser = flag.flag_type(), flag.parser
    expected = ("one of " + ", ".join(parser.enum_values) if hasattr(parser, "enum_values") else
                "true or false" if kind == "bool" else parser.syntactic_help or "text")
    with contextlib.suppress(ValueError):
        if type(value) in TYPES.get(kind, (str,)) and parser.parse(str(value)) == value:  # as if it was typed
            return None
    return expected
