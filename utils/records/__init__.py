"""The records of a run: its folder, logs, checkpoints, settings and report."""
