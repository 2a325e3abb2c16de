"""A secret is in no text that is shown, in whatever form, whole or in part."""

import base64
import json
import logging
import re
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fledgling import redaction
from fledgling.redaction import Formatter, redacted

SECRET = "hf_" + "aB3+/dEf=" * 4
FORMS = {
    "plain": SECRET,
    "address": quote(SECRET, safe=""),
    "address, small letters": re.sub("%..", lambda match: match[0].lower(), quote(SECRET, safe="")),
    "every byte escaped": "".join(f"%{byte:02X}" for byte in SECRET.encode()),
    "json": json.dumps(SECRET)[1:-1],
    "hex": SECRET.encode().hex(),
    **{f"base64 after {n}": base64.b64encode(b"x" * n + SECRET.encode() + b"y").decode() for n in range(3)},
    "base64 for addresses": base64.urlsafe_b64encode(b"user:" + SECRET.encode()).decode(),
}


@pytest.mark.parametrize("form", FORMS)
def test_no_form_stays(form: str) -> None:
    text = redacted(f"the reply said {FORMS[form]} and more", [SECRET])
    assert FORMS[form] not in text
    assert SECRET[:10] not in text
    assert FORMS[form][8:24] not in text
    assert text.startswith("the reply said ")
    assert text.endswith("and more")


@pytest.mark.parametrize("length", range(10, len(SECRET)))
def test_a_part_from_the_beginning_does_not_stay(length: int) -> None:
    assert redacted(f"cut {SECRET[:length]}", [SECRET]) == "cut [secret]"


@given(
    before=st.text(alphabet="abc xyz", max_size=30),
    secret=st.from_regex(r"[A-Z0-9/+=_-]{16,60}", fullmatch=True),
    after=st.text(alphabet="abc xyz", max_size=30),
)
def test_any_secret_anywhere(before: str, secret: str, after: str) -> None:
    text = redacted(before + secret + after, [secret])
    assert secret not in text
    assert text == f"{before}[secret]{after}"


def test_short_ones_and_other_words_stay() -> None:
    assert redacted("password is a word", ["password1", "short"]) == "password is a word"
    assert redacted("password1 is none", ["password1"]) == "[secret] is none"


def test_log_lines_and_tracebacks_lose_secrets() -> None:
    form = Formatter("%(message)s", [SECRET])
    try:
        raise ValueError(f"Illegal header value b'Bearer {SECRET}'")
    except ValueError as error:
        record = logging.LogRecord("x", logging.ERROR, "x.py", 1, "sent %s", (SECRET,), (type(error), error, None))
    assert SECRET not in form.format(record)
    assert "Illegal header value" in form.format(record)


def test_secrets_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    (tmp_path / "token").write_text("hf_of_the_stored_login\n")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_TOKEN_PATH", raising=False)
    monkeypatch.setenv("SOME_API_KEY", "value-of-a-key-1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".fledgling/secrets").mkdir(parents=True)
    (tmp_path / ".fledgling/secrets/hf_token").write_text("hf_of_the_console\n")
    assert {"hf_of_the_stored_login", "hf_of_the_console", "value-of-a-key-1"} <= set(redaction.on_this_machine())
