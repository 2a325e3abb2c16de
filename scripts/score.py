"""Score a contender's predictions against a split: `fledgling score` as the rule runs it."""

from fledgling.command import score
from fledgling.command.main import script

if __name__ == "__main__":
    script(score)
