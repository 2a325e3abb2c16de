"""Upload the adapter that a verdict deploys: `fledgling publish` as the rule runs it."""

from fledgling.command import publish
from fledgling.command.main import script

if __name__ == "__main__":
    script(publish)
