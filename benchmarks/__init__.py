"""Measurements of this suite, run from the repository root as `python -m benchmarks.speed`; README.md reports them."""
