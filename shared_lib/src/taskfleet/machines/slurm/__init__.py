"""Slurm clusters: machines are batch jobs, elements of job arrays, each with a worker."""
