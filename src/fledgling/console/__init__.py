"""The operations console: the page and the JSON API of one folder, on this machine alone (docs/console.md).

All that it shows is read from files, all that it does is a file or a run of Snakemake that the command line makes as
well; so it can be killed and started again at any time.
"""
