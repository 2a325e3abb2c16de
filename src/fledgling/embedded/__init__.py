"""The embedded default: a small world of requests, and a checkpoint that is trained on it here."""
