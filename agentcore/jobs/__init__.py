"""What RQ runs: one function that takes a run's id, and the job class that allows nothing else."""
