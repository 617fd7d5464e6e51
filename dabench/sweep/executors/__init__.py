"""Who makes the runs: processes of this machine, Slurm, Ray."""
