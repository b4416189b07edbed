"""Numbers over runs: means over seeds with their 95% intervals."""

import numpy as np
from scipy import stats


def mean_interval(values, confidence=0.95):
    """Return the mean of independent values, such as one per seed, and the ends of Student's t interval around it.

    Args:
        values: float[n]; with n = 1 the interval is infinite.
    """
    values = np.asarray(values, float)
    mean, error = values.mean(), stats.sem(values) if len(values) > 1 else np.inf
    if error == 0:
        return mean, mean, mean
    low, high = stats.t.interval(confidence, max(len(values) - 1, 1), loc=mean, scale=error)
    return mean, low, high
