"""Running pipelines: files in, a folder out, on this machine, SLURM or Ray; stopped and started again."""
