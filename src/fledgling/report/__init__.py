"""The report of one track: a single HTML file that carries everything it shows."""
