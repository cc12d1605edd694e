"""What stays on disk: the event log of a big run, spilled events, checkpoints."""
