"""Every file and column of a run, said once."""

LIMITS = dict(maxsteps="agent steps", maxepisodes="episodes")  # of training; whichever is met first ends it
# Settings that may change when a run goes on: its limits, and how often it is looked at and saved.
FREE = (*LIMITS, "eval_period", "checkpoint_period", "weights_period")
PHASES = ("environment", "act", "sample", "learn")  # of a vector step, whose seconds learn.csv has
COLUMNS = {
    "train": "agent_step frames episode_return length training_reward environment cut seconds".split(),
    "learn": "agent_step frames updates loss mean_q gradient_norm epsilon learning_rate cut_share "
             "environment_seconds act_seconds sample_seconds learn_seconds seconds".split(),
    "eval": "agent_step frames evaluation episode episode_return length seconds".split(),
}
UNKNOWN = ("loss", "mean_q", "gradient_norm")  # columns of learn.csv that are NaN before the first update
SAME_LINE = ("seed", *FREE)  # settings in which the runs of one line may differ
GAMES = {"AssaultCrafted-v0": "Assault", "BowlingShaped-v0": "Bowling"}  # of environments.rewards.VARIANTS, without Gymnasium, which is slow to import


def met_limit(settings, agent_step, episodes):
    """Return which limit training has met, None before: `maxsteps`, or `maxepisodes`, which counts complete ones."""
    counts = dict(maxsteps=agent_step, maxepisodes=episodes)
    return next((name for name in LIMITS if settings.get(name) and counts[name] >= settings[name]), None)
