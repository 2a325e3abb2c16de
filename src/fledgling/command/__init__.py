"""The `fledgling` command: one module a subcommand, each a thin entry to the library."""
