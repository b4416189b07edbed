"""Flags of train.py, and what they resolve to: the config of a run.

Nothing here imports a backend, so that a mistake is answered at once.
"""

import contextlib
import math
import pathlib
import reprlib
from collections.abc import Sequence
from typing import Any

from launch import start
from launch.parsing import define_enum, define_integer, define_row, parse_flags

from absl import flags

import choices
import schedules
from storage import layout, strangers

BUFFLEN = 400_000  # timesteps; Hausknecht & Stone 2015
GROUPS = ("run", "environment", "learning", "exploration", "evaluation")
NO_SETTING = ("run_dir", "jid", "resume", "max_hours")  # not part of what a run computes
RESOLVED = "history unroll sample frame_skip learning_rate max_episode_frames".split()  # flags None, settings never
# Settings that earlier versions did not have; in their runs they are off.
LATER = """maxepisodes weights_period features init_from lr_schedule reward_scale double trace_decay start_state
           burn_in color""".split()
TYPES = dict(int=(int,), float=(int, float), bool=(bool,))  # kind of a flag -> types of its value; the others take text
UNNAMED = ("network", "env", "seed", *NO_SETTING, *layout.FREE)  # never part of a run's name as a flag of their own

EPSILON = "epsilon_begin epsilon_end epsilon_decay epsilonStep".split()
FEW_UPDATES = 1000


def define_flags() -> flags.FlagValues:
    """Return the flags of train.py with their defaults; `configure` resolves None by environment or network."""
    values = flags.FlagValues()
    string, integer, real = flags.DEFINE_string, define_integer, flags.DEFINE_float
    choice, of_table, boolean = define_enum, define_row, flags.DEFINE_bool
    groups: list[dict[str, Any]] = [dict(flag_values=values, module_name=group) for group in GROUPS]
    run, env, learn, explore, evaluation = groups

    of_table("network", "DRQN", choices.NETWORKS, "Q-network, of the table in choices.py", **run)
    string("env", "Frostbite", "ALE game in any spelling, or a Gymnasium id (yours: module:id), whose settings are "
           "then the defaults", **run)
    integer("maxsteps", 10_000_000, "length of training [agent steps; Hausknecht & Stone 2015]", 1, **run)
    integer("maxepisodes", None, "length of training too, whichever is met first [complete episodes; default none]", 1,
            **run)
    integer("seed", 1, "of everything random in the run", 0, **run)
    string("run_dir", None, "directory of the run; default "
           "runs/<env>-<network>[-<preset>][-flags set beside it][-<jid>]-s<seed>", **run)
    string("jid", None, "a name of your own for the run, put into run_dir", **run)
    choice("resume", "auto", ["auto", "never", "partial"],
           "auto: go on where run_dir stopped; never: refuse a run_dir that is not empty; partial: as auto, and with "
           "what is left of a damaged replay", **run)
    integer("checkpoint_period", 50_000, "between checkpoints [agent steps]", 1, **run)
    integer("weights_period", 0, "between weights that are kept in <run_dir>/weights, 0: none [complete episodes]", 0,
            **run)
    real("max_hours", 0.0, "age of this process at which it saves and exits with code 75, 0: none; leave a job some "
         "minutes to save [hours]", 0, 1e6, **run)

    integer("num_envs", 8, "environments stepped together [environments]", 1, **env)
    integer("history", None, "frames stacked into one observation "
            "[frames; default 4 for DQN, Mnih et al. 2015; 1 for DRQN]", 1, 1000, **env)
    integer("frame_skip", None, "frames per agent step [frames; default 4 on Atari, Mnih et al. 2015; 1 elsewhere]", 1,
            **env)
    real("sticky", None, "probability that ALE repeats the last action [default 0; Machado et al. 2018 use 0.25]", 0, 1,
         **env)
    boolean("full_actions", None, "all 18 actions of ALE instead of the game's own [default false]", **env)
    integer("noops", None, "most no-ops at an ALE episode's start "
            "[agent steps without skip; default 30, Mnih et al. 2015]", 0, **env)
    integer("max_episode_frames", None, "until truncation, 0: no cap "
            "[frames; default 108000 on Atari, the id's own elsewhere]", 0, **env)
    real("flicker", 0.0, "probability that a frame is obscured [Hausknecht & Stone 2015 use 0.5]", 0, 1, **env)
    boolean("color", False, "screens are seen in RGB instead of gray [Mnih et al. 2015: gray]", **env)
    string("features", None, "frames as vectors that a frozen torso makes of each screen once: resnet50:imagenet, "
           "resnet50:PATH of its weights, or a run_dir, for the torso of that run "
           "[default none; Kalbag et al.: ResNet-18]", **env)
    choice("life_loss", None, ["none", "terminal", "penalty"], "what a lost life does: nothing, discount 0 "
           "(Mnih et al. 2015) or reward -1 (Hausknecht & Stone's code) [default none]", **env)

    integer("units", 512, "of the dense or LSTM core [units; Mnih et al. 2015]", 1, 16_384, **learn)
    string("init_from", None, "a run_dir: begin with the torso of that run's best weights, and train it on "
           "[default none]", **learn)
    integer("bufflen", None, "replay "
            "[timesteps; default 400000, Hausknecht & Stone 2015; of --sample=rollout what it takes]", 1, **learn)
    integer("unroll", None, "transitions per window [agent steps; default 1 for DQN; 10 for DRQN, Hausknecht & Stone "
            "2015; 80 for R2D2; 32 for PQN]", 1, **learn)
    choice("sample", None, ["timestep", "episode", "sequential", "rollout", "priority"],
           "timestep: windows drawn uniformly over timesteps (default for DQN); episode: over episodes, then a start "
           "(default for DRQN); sequential: each of batch_size lanes walks through a drawn episode, its state carried "
           "from update to update; rollout: the newest --unroll rows of all environments, dealt in shuffled order, and "
           "nothing older (default for PQN); priority: windows that begin at every unroll/2-th transition of an "
           "episode, in proportion to their priorities, from stored states (default for R2D2)", **learn)
    choice("start_state", None, ["zero", "stored"], "of the core before a window: zero, or the acting state, which the "
           "replay then stores [default stored for --sample=rollout and priority, zero for others]", **learn)
    integer("burn_in", 0, "before each window, over which the state is carried without a gradient, in windows that are "
            "drawn [agent steps; Kapturowski et al. 2019: 40]", 0, **learn)
    integer("batch_size", 32, "windows per update [windows; Mnih et al. 2015]", 1, **learn)
    of_table("optimizer", "rmsprop", choices.OPTIMIZERS,
             "a row of the table in choices.py, with its source [Mnih et al. 2015]", **learn)
    real("learning_rate", None, "default: the one that comes with --optimizer", 0, **learn)
    string("lr_schedule", None, "of the learning rate over updates (u) or complete episodes (ep): constant [default]; "
           "step:25ep:0.8, times 0.8 every 25; cosine_restarts:10ep:0.001, half a cosine down to 0.001 in 10, and "
           "again [Kalbag et al. have both]", **learn)
    real("gamma", 0.99, "discount per agent step [Mnih et al. 2015]", 0, 1, **learn)
    choice("reward_scale", None, ["clip", "raw", "rescale"], "training rewards: their sign, as they are, or Q-values "
           "of h(x) = sign(x) (sqrt(|x| + 1) - 1) + .001 x of returns, rewards as they are [Kapturowski et al. 2019] "
           "[default clip on Atari, Mnih et al. 2015; raw elsewhere]", **learn)
    of_table("loss", "huber", choices.LOSSES, "of a temporal-difference error [Mnih et al. 2015]; mse: half the "
             "square; euclidean: half the square summed over the batch [Caffe's, of Hausknecht & Stone's code]",
             **learn)
    real("clip_norm", 10.0, "global L2 norm of gradients, 0 for none [Hausknecht & Stone 2015]", 0, **learn)
    integer("update_period", 4, "agent steps per update [agent steps; Mnih et al. 2015]", 1, **learn)
    integer("target_period", 10_000, "between copies into the target network, 0: there is none [agent steps; dqn_zoo]",
            0, **learn)
    boolean("double", False, "the online network chooses the action whose target value counts "
            "[van Hasselt et al. 2016]", **learn)
    real("trace_decay", 0.0, "lambda of the targets, Peng's Q(lambda) over a window, 0: one-step targets "
         "[Gallici et al. 2025: 0.65]", 0, 1, **learn)
    integer("learning_starts", 50_000, "before the first update [agent steps; Mnih et al. 2015]", 0, **learn)
    choice("precision", "float32", ["float32", "mixed_bfloat16"],
           "of the network's products; Q-values and loss stay float32", **learn)

    real("epsilon_begin", 1.0, "probability of a random action at agent step 0 [Mnih et al. 2015]", 0, 1, **explore)
    real("epsilon_end", 0.1, "probability of a random action at the end of its decay [Mnih et al. 2015]", 0, 1,
         **explore)
    string("epsilon_decay", None, "linear:<N>steps or linear:<N>ep, from begin to end in N agent steps or complete "
           "episodes [default linear:1000000steps, Mnih et al. 2015]; exp:<N>steps or exp:<N>ep, "
           "end + (begin - end) exp(-count / N) [Bhowmik: exp:200steps]; with an end of 0 that is times d every M for "
           "N = -M / ln d [UntitledGrub, .995 every 50 games: exp:9975ep]; apex: environment i of N has "
           ".4^(1 + 7 i / (N - 1)) throughout [Kapturowski et al. 2019]", **explore)
    real("epsilonStep", None, "instead of --epsilon_decay: decrement per agent step", 0, **explore)

    integer("eval_period", 50_000, "between evaluations [agent steps; Hausknecht & Stone 2015]", 1, **evaluation)
    integer("eval_episodes", 10, "per evaluation [episodes; Hausknecht & Stone 2015]", 1, **evaluation)
    real("eval_epsilon", 0.05, "probability of a random action in evaluations [Mnih et al. 2015]", 0, 1, **evaluation)
    return values


def explain_defaults() -> str:
    """Return the part of --help on defaults where observations are vectors."""
    tables = [" ".join(f"--{name}={value}" for name, value in table.items()) for table in choices.VECTORS.values()]
    return (f"Where observations are vectors, other defaults apply [found on CartPole-v1: presets/cartpole.flags]:\n"
            f"  {tables[0]}\nand with --sample=rollout, so for PQN [presets/pqn_mini.flags]:\n  {tables[1]}")


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
            if is_rollout:
                raise ValueError(f"--learning_starts={settings['learning_starts']} agent steps leaves no update: "
                                 f"expected fewer than --maxsteps={settings['maxsteps']}")
            raise ValueError(f"--learning_starts={settings['learning_starts']} agent steps leaves no update: expected "
                             f"fewer than --maxsteps={settings['maxsteps']}, and at most "
                             f"--bufflen={settings['bufflen']}")
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
