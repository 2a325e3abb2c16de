"""The graph on a real Slurm: started for these tests on this machine, with several nodes and GPUs that are none."""
