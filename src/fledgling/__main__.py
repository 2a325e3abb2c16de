"""`python -m fledgling` is the `fledgling` command."""

from fledgling.command.main import main

main()
