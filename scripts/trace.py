"""Trace one track: `fledgling trace` as the rule runs it."""

from fledgling.command import trace
from fledgling.command.main import script

if __name__ == "__main__":
    script(trace)
