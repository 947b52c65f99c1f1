"""What a run leaves behind: its folder, logs, checkpoints, settings and report."""
