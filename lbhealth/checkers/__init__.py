"""One file per protocol: the dialogue and nothing else."""
