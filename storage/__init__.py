"""A run on disk: its files, its checkpoints, and the one reader of all of it."""
