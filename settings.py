"""Flags of train.py, and what they resolve to: the config of a run."""

import math
import pathlib

import backends  # noqa: F401 - first: it imports the backend quietly

import keras
from absl import flags

import agent
import models
import schedules
from environments import catalogue
from storage import layout

BUFFLEN = 400_000  # timesteps; Hausknecht & Stone 2015
GROUPS = ("run", "environment", "learning", "exploration", "evaluation")
NO_SETTING = ("run_dir", "jid", "resume", "max_hours")  # not part of what a run computes
UNNAMED = ("network", "env", "seed", *NO_SETTING, *layout.FREE)  # never part of a run's name as a flag of their own


def define_flags():
    """Return the flags of train.py with their defaults; `configure` resolves None by environment or network."""
    values = flags.FlagValues()
    string, integer, real = flags.DEFINE_string, flags.DEFINE_integer, flags.DEFINE_float
    choice, boolean = flags.DEFINE_enum, flags.DEFINE_bool
    run, env, learn, explore, evaluation = (dict(flag_values=values, module_name=group) for group in GROUPS)

    choice("network", "DRQN", list(models.NETWORKS), "Q-network, of the table in models.py", **run)
    string("env", "Frostbite", "ALE game in any spelling, or a Gymnasium id (yours: module:id), whose settings are "
           "then the defaults", **run)
    integer("maxsteps", 10_000_000, "length of training [agent steps; Hausknecht & Stone 2015]", 1, **run)
    integer("maxepisodes", None, "length of training too, whichever is met first [complete episodes; default none]", 1,
            **run)
    integer("seed", 1, "of everything random in the run", 0, **run)
    string("run_dir", None, "directory of the run; default "
           "runs/<env>-<network>[-<preset>][-flags set beside it][-<jid>]-s<seed>", **run)
    string("jid", None, "a name of your own for the run, put into run_dir", **run)
    choice("resume", "auto", ["auto", "never"],
           "auto: go on where run_dir stopped; never: refuse a run_dir that is not empty", **run)
    integer("checkpoint_period", 50_000, "between checkpoints [agent steps]", 1, **run)
    integer("weights_period", 0, "between weights that are kept in <run_dir>/weights, 0: none [complete episodes]", 0,
            **run)
    real("max_hours", 0.0, "age of this process at which it saves and exits with code 75, 0: none; leave a job some "
         "minutes to save [hours]", 0, 1e6, **run)

    integer("num_envs", 8, "environments stepped together [environments]", 1, **env)
    integer("history", None, "frames stacked into one observation "
            "[frames; default 4 for DQN, Mnih et al. 2015; 1 for DRQN]", 1, **env)
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
    string("features", None, "frames as vectors that a frozen torso makes of each screen once: resnet50:imagenet, "
           "resnet50:PATH of its weights, or a run_dir, for the torso of that run "
           "[default none; Kalbag et al.: ResNet-18]", **env)
    choice("life_loss", None, ["none", "terminal", "penalty"], "what a lost life does: nothing, discount 0 "
           "(Mnih et al. 2015) or reward -1 (Hausknecht & Stone's code) [default none]", **env)

    integer("units", 512, "of the dense or LSTM core [units; Mnih et al. 2015]", 1, **learn)
    string("init_from", None, "a run_dir: begin with the torso of that run's best weights, and train it on "
           "[default none]", **learn)
    integer("bufflen", None, "replay "
            "[timesteps; default 400000, Hausknecht & Stone 2015; of --sample=rollout what it takes]", 1, **learn)
    integer("unroll", None, "transitions per window "
            "[agent steps; default 1 for DQN; 10 for DRQN, Hausknecht & Stone 2015; 32 for PQN]", 1, **learn)
    choice("sample", None, ["timestep", "episode", "sequential", "rollout"],
           "timestep: windows drawn uniformly over timesteps (default for DQN); episode: over episodes, then a start "
           "(default for DRQN); sequential: each of batch_size lanes walks through a drawn episode, its state carried "
           "from update to update; rollout: the newest --unroll rows of all environments, dealt in shuffled order, and "
           "nothing older (default for PQN)", **learn)
    integer("batch_size", 32, "windows per update [windows; Mnih et al. 2015]", 1, **learn)
    choice("optimizer", "rmsprop", list(agent.OPTIMIZERS),
           "a row of the table in agent.py, with its source [Mnih et al. 2015]", **learn)
    real("learning_rate", None, "default: the one that comes with --optimizer", 0, **learn)
    string("lr_schedule", None, "of the learning rate over updates (u) or complete episodes (ep): constant [default]; "
           "step:25ep:0.8, times 0.8 every 25; cosine_restarts:10ep:0.001, half a cosine down to 0.001 in 10, and "
           "again [Kalbag et al. have both]", **learn)
    real("gamma", 0.99, "discount per agent step [Mnih et al. 2015]", 0, 1, **learn)
    choice("reward_scale", None, ["clip", "raw", "rescale"], "training rewards: their sign, as they are, or Q-values "
           "of h(x) = sign(x) (sqrt(|x| + 1) - 1) + .001 x of returns, rewards as they are [Kapturowski et al. 2019] "
           "[default clip on Atari, Mnih et al. 2015; raw elsewhere]", **learn)
    choice("loss", "huber", ["huber", "mse", "euclidean"], "of a temporal-difference error [Mnih et al. 2015]; mse: "
           "half the square; euclidean: half the square summed over the batch [Caffe's, of Hausknecht & Stone's code]",
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
           "N = -M / ln d [UntitledGrub, .995 every 50 games: exp:9975ep]", **explore)
    real("epsilonStep", None, "instead of --epsilon_decay: decrement per agent step", 0, **explore)

    integer("eval_period", 50_000, "between evaluations [agent steps; Hausknecht & Stone 2015]", 1, **evaluation)
    integer("eval_episodes", 10, "per evaluation [episodes; Hausknecht & Stone 2015]", 1, **evaluation)
    real("eval_epsilon", 0.05, "probability of a random action in evaluations [Mnih et al. 2015]", 0, 1, **evaluation)
    return values


def configure(arguments):
    """Turn command line arguments into a config: `train(configure(["--env=Pong", "--flicker=0.5"]))`.

    Returns:
        dict(settings=every flag resolved, run_dir, resume, max_hours, command).

    Raises:
        ValueError, flags.Error: one sentence on what was given and what is expected.
    """
    values = define_flags()
    rest = values(["train.py", *arguments])[1:]
    if rest:
        raise ValueError(f"the argument {rest[0]!r} is no flag; flags begin with --")
    given, settings = values.flag_values_dict(), {}
    given["env"], of_env = catalogue.describe(given["env"])
    network = models.NETWORKS[given["network"]]
    of_network = dict(history=network.history, unroll=network.unroll, sample=network.sample)
    for name in ("frame_skip", "sticky", "full_actions", "noops", "max_episode_frames", "life_loss"):
        if given[name] is not None and name not in of_env:
            raise ValueError(f"--{name}={given[name]} does not apply to --env={given['env']}, which is no ALE game")
    for name, value in given.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"--{name}={value} was given; expected a finite number")
        if value == "" and name not in NO_SETTING:  # A shell's variable that is not set.
            raise ValueError(f"--{name} was given without a value; expected one, or no --{name}")
        if name not in NO_SETTING:
            settings[name] = value if value is not None else {**of_env, **of_network}.get(name)
    if settings["frame_skip"] is None:
        raise ValueError(f"--env={given['env']} skips a random 2 to 5 frames; expected a fixed --frame_skip, or the "
                         "game's bare name")
    if given["epsilon_decay"] is not None and given["epsilonStep"] is not None:
        raise ValueError("--epsilon_decay and --epsilonStep both set the decay of epsilon; expected one of them")
    if given["epsilonStep"] is None:
        settings["epsilon_decay"] = given["epsilon_decay"] or "linear:1000000steps"
    if settings["learning_rate"] is None:
        settings["learning_rate"] = agent.OPTIMIZERS[settings["optimizer"]][1]["learning_rate"]
    if settings["lr_schedule"] == "constant":
        settings["lr_schedule"] = None  # As runs have it that were begun before there were others.
    if settings["sample"] == "rollout":
        if given["bufflen"] is not None:
            raise ValueError(f"--bufflen={given['bufflen']} does not apply to --sample=rollout, which keeps one "
                             "rollout and nothing else; expected no --bufflen, or another --sample")
    elif given["bufflen"] is None:
        settings["bufflen"] = BUFFLEN
    _check(settings)
    settings["backend"] = keras.backend.backend()
    return dict(settings=settings, run_dir=given["run_dir"] or _name_run(arguments, given), resume=given["resume"],
                max_hours=given["max_hours"], command=["train.py", *arguments])


def _check(settings):
    """Refuse settings with which a run could not learn."""
    is_rollout = settings["sample"] == "rollout"
    for limit in ("maxsteps",) if is_rollout else ("maxsteps", "bufflen"):
        if settings["learning_starts"] > settings[limit] - (limit == "maxsteps"):
            raise ValueError(f"--learning_starts={settings['learning_starts']} agent steps leaves no update: expected "
                             f"fewer than --maxsteps={settings['maxsteps']}, and at most "
                             f"--bufflen={settings['bufflen']}")
    if settings["features"] and settings["init_from"]:
        raise ValueError(f"--features={settings['features']} leaves the network without a torso that "
                         f"--init_from={settings['init_from']} could begin with; expected one of them")
    if is_rollout:
        _check_rollout(settings)
    if settings["trace_decay"] and settings["unroll"] == 1:
        raise ValueError(f"--trace_decay={settings['trace_decay']} needs windows of several transitions; expected "
                         "--unroll=2 or more, or no --trace_decay")
    if settings["double"] and not settings["target_period"]:
        raise ValueError("--double needs a target network, and --target_period=0 has none; expected one of them")
    if settings["learning_rate"] <= 0:
        raise ValueError(f"--learning_rate={settings['learning_rate']} was given; expected a positive number")
    names = "epsilon_begin epsilon_end epsilon_decay epsilonStep".split()
    schedules.epsilon(**{name: settings[name] for name in names})
    schedules.learning_rate(settings["learning_rate"], settings["lr_schedule"])


def _check_rollout(settings):
    """Refuse rollouts that cannot be dealt in whole batches and whole passes."""
    T, N, B, period = (settings[name] for name in ("unroll", "num_envs", "batch_size", "update_period"))
    if N % B:
        raise ValueError(f"--batch_size={B} does not divide --num_envs={N}; expected a divisor, since --sample=rollout "
                         "deals every environment once in each pass")
    if T * B % period:
        raise ValueError(f"--update_period={period} makes {T * B / period:g} passes over a rollout; expected a divisor "
                         f"of {T * B} = --unroll={T} times --batch_size={B}, for whole passes")


def _name_run(arguments, given):
    """Return the default run_dir, the same for the same settings whatever the job or the machine."""
    files, preset = [], define_flags()
    for argument, following in zip(arguments, [*arguments[1:], ""]):
        name, equals, value = argument.lstrip("-").partition("=")
        if name == "flagfile" and argument.startswith("-"):
            files.append(value if equals else following)
    preset(["train.py", *(f"--flagfile={file}" for file in files)])
    beside = {name: value for name, value in given.items() if name not in UNNAMED and value != preset[name].value}
    first = [given["env"], given["network"], *(pathlib.Path(file).stem for file in files)]
    return str(pathlib.Path("runs") / layout.name_run(first, beside, given["seed"], given["jid"]))
