"""The sections of the page as plain values: every number rounded, every sentence chosen, pictures drawn."""
