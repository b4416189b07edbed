"""The results of runs: statistics, curves, sweeps, scores, tables, the page."""
