"""How a row becomes the turns and the text that a contender reads."""
