"""Secrets out of foreign text: nothing that is shown, logged or kept repeats one, whole, in part or in another form."""

import base64
import json
import logging
import math
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote, quote_plus

SECRET_NAME = re.compile(r"(?:^|_)(?:API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$", re.IGNORECASE)
SHORTEST = 8  # a shorter value is a placeholder, and would be found in innocent text
PART = 10  # characters from its beginning by which a longer secret is known where somebody cut it
SHOWN = "[secret]"
LARGEST = 4096  # bytes of a file that holds a login


def in_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """{variable: value} of the environment variables that hold a credential, by their names.

    Placeholders are left out: values under 8 characters, and single words under 12.
    """
    return {
        name: value.strip()
        for name, value in environment.items()
        if SECRET_NAME.search(name) and _is_secret(value.strip())
    }


def _is_secret(value: str) -> bool:
    return len(value) >= (12 if value.isalpha() else SHORTEST)


def on_this_machine() -> list[str]:
    """Every credential that a process here may send: variables, the stored Hub login, the console's token."""
    home = Path(os.environ.get("HF_HOME") or Path("~/.cache/huggingface").expanduser())
    places = [Path(os.environ.get("HF_TOKEN_PATH") or home / "token"), Path(".fledgling/secrets/hf_token")]
    found = list(in_environment(os.environ).values())
    for place in places:
        try:
            with open(place, encoding="utf-8") as stream:
                found.append(stream.read(LARGEST).strip())
        except (OSError, ValueError):
            continue
    return [value for value in found if len(value) >= SHORTEST]


def forms(value: str) -> set[str]:
    """A secret as it may stand in a text: as it is, in an address, in JSON, in hex, in base64 at each of three alignments."""
    raw = value.encode("utf-8", "surrogatepass")
    coded = {quote(raw, safe=""), quote(raw), quote_plus(raw), "".join(f"%{byte:02X}" for byte in raw)}
    found = {value, json.dumps(value)[1:-1], raw.hex(), raw.hex().upper(), *coded}
    found |= {re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), one) for one in coded}
    for shift in range(3):
        text = base64.b64encode(b"\0" * shift + raw).decode()
        whole = text[math.ceil(shift * 8 / 6) : (shift + len(raw)) * 8 // 6]
        if len(whole) >= SHORTEST:
            found |= {whole, whole.translate(str.maketrans("+/", "-_"))}
    return found


def is_unmistakable(value: str) -> bool:
    """Whether a value is found in a text for no other reason than that somebody quoted it."""
    return len(value) >= 20 and any(map(str.isdigit, value)) and any(map(str.isalpha, value))


def redacted(text: str, secrets: Iterable[str], shown: str = SHOWN, *, parts: bool = True) -> str:
    """A text without these secrets in any form; with `parts`, of a long one ten characters from its beginning are enough."""
    for secret in sorted({one for one in secrets if len(one) >= SHORTEST}, key=len, reverse=True):
        known = sorted(forms(secret), key=len, reverse=True)
        for form in known:
            text = text.replace(form, shown)
        for form in known if parts else ():
            text = _without_parts(text, form, shown)
    return text


def _without_parts(text: str, form: str, shown: str) -> str:
    """The text without the beginning of a form that somebody cut, as far as it goes."""
    if len(form) < 2 * SHORTEST:
        return text
    least, parts, at = PART, list[str](), 0
    while (found := text.find(form[:least], at)) >= 0:
        end = found + least
        while end < len(text) and end - found < len(form) and text[end] == form[end - found]:
            end += 1
        parts += [text[at:found], shown]
        at = end
    return "".join([*parts, text[at:]]) if parts else text


class Formatter(logging.Formatter):
    """Log lines, tracebacks included, without the secrets of this machine."""

    def __init__(self, form: str, secrets: Iterable[str]) -> None:
        super().__init__(form)
        self._secrets = list(secrets)

    def format(self, record: logging.LogRecord) -> str:
        """One record as text."""
        return redacted(super().format(record), self._secrets)
