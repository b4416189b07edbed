"""Flags of train.py, with their defaults, units and sources. settings.py resolves them."""

from typing import Any

from launch.parsing import define_enum, define_integer, define_row

from absl import flags

import choices

GROUPS = ("run", "environment", "learning", "exploration", "evaluation")


def define_flags() -> flags.FlagValues:
    """Return the flags of train.py with their defaults; settings.configure resolves None by environment or network."""
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
