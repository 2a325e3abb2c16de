"""How a stage lives inside the Snakemake graph."""
