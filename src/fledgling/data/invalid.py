"""Why a row cannot be used."""


class Unusable(ValueError):
    """A row that cannot become an example.

    `code` groups such rows in the datasheet; the text names the key and the remedy, and the caller
    puts the place (file and line) in front of it.
    """

    def __init__(self, code: str, text: str):
        super().__init__(text)
        self.code = code
