"""Runs on disk: their files, their checkpoints, and the one reader of them all."""
