"""What runs came to: statistics, curves, sweeps, scores, tables, the page."""
