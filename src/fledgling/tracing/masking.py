"""What may not leave the run: credentials and configured patterns, masked in whatever is kept or sent."""

import functools
import re
from collections.abc import Mapping, Sequence

from fledgling.artefacts import Json, JsonObject
from fledgling.redaction import in_environment, on_this_machine
from fledgling.secrets import mask

MARK = "[masked]"
_REPEATED = 4096  # characters up to which a text is likely to come again: tools, schemas, system messages


class Mask:
    """Masks every text inside a value, keys of objects too.

    Credentials by their form, by the values of this environment's variables and by the logins that this machine keeps,
    and what the `patterns` (regular expressions) match; these are tried on numbers as well, as they are written.
    """

    def __init__(self, patterns: Sequence[str], environment: Mapping[str, str]) -> None:
        self._patterns = [re.compile(pattern) for pattern in patterns]
        named = in_environment(environment)
        kept = [value for value in on_this_machine() if value not in named.values()]
        self._values = {**named, **{f"login {number} of this machine": value for number, value in enumerate(kept, 1)}}
        self._cached = functools.lru_cache(maxsize=1 << 15)(self._masked)

    def __call__(self, value: Json) -> Json:
        """The value without what is masked; its shape stays."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return self.object(value)
        if isinstance(value, list):
            return [self(item) for item in value]
        if self._patterns and isinstance(value, int | float) and not isinstance(value, bool):
            written = repr(value)
            masked = self._configured(written)
            return value if masked == written else masked
        return value

    def object(self, value: JsonObject) -> JsonObject:
        """The same of an object."""
        return {self.text(key): self(item) for key, item in value.items()}

    def text(self, text: str) -> str:
        """The same of one text."""
        return self._cached(text) if len(text) <= _REPEATED else self._masked(text)

    def _masked(self, text: str) -> str:
        return self._configured(mask(text, self._values))

    def _configured(self, text: str) -> str:
        for pattern in self._patterns:
            text = pattern.sub(MARK, text)
        return text
