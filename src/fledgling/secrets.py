"""Credentials: found in files before they leave the machine, and masked in what is copied."""

import base64
import functools
import math
import mmap
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fledgling.redaction import SHORTEST, forms

# Patterns start with a fixed text, so that a scan of a large file stays a search for that text.
RULES: Mapping[str, re.Pattern[bytes]] = {
    "Hugging Face token": re.compile(rb"hf_[A-Za-z0-9]{20,}"),
    "API key (sk-…)": re.compile(rb"sk-(?<![A-Za-z0-9]sk-)(?:(?=[\w-]*\d)[\w-]{20,}|[A-Za-z0-9]{20,})"),
    "AWS access key": re.compile(rb"A(?:KIA|SIA)(?<![A-Z0-9]A.{3})[0-9A-Z]{16}(?![0-9A-Z])"),
    "GitHub token": re.compile(rb"gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{40,}"),
    "GitLab token": re.compile(rb"gl(?:pat|dt|rt|ptt|soat)-(?<![A-Za-z0-9]gl...-)[\w-]{20,}"),
    "Google API key": re.compile(rb"AIza[A-Za-z0-9_-]{35}|ya29\.[\w-]{30,}"),
    "Slack token": re.compile(rb"xox[abeoprs]-[A-Za-z0-9-]{20,}|xapp-\d-[A-Za-z0-9-]{20,}"),
    "Slack webhook": re.compile(rb"hooks\.slack\.com/services/T\w{6,}/B\w{6,}/\w{16,}"),
    "Stripe key": re.compile(rb"[sr]k_(?:live|test)_[A-Za-z0-9]{16,}|whsec_[A-Za-z0-9+/]{24,}"),
    "PyPI token": re.compile(rb"pypi-AgE[\w-]{30,}"),
    "npm token": re.compile(rb"npm_[A-Za-z0-9]{36}"),
    "SendGrid key": re.compile(rb"SG\.[\w-]{16,}\.[\w-]{16,}"),
    "DigitalOcean token": re.compile(rb"do[opr]_v1_[a-f0-9]{64}"),
    "JSON Web Token": re.compile(rb"eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{16,}"),
    "Azure storage key": re.compile(rb"(?:AccountKey|SharedAccessKey)=[A-Za-z0-9+/]{40,}={0,2}"),
    "Azure signature": re.compile(rb"[?&]sig=[A-Za-z0-9%/+]{40,}"),
    "private key": re.compile(rb"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"),
}
# As RULES, in text only, so that a large binary file is not searched for so many.
TEXT_RULES: Mapping[str, re.Pattern[bytes]] = {
    "Atlassian token": re.compile(rb"AT[AC]TT3xFf[\w=-]{60,}"),
    "Databricks token": re.compile(rb"dapi(?<![A-Za-z0-9]dapi)[a-f0-9]{32}(?![a-f0-9])"),
    "Discord webhook": re.compile(rb"discord(?:app)?\.com/api/webhooks/\d{15,22}/[\w-]{50,}"),
    "Docker token": re.compile(rb"dckr_[po]at_[\w-]{20,}"),
    "Grafana token": re.compile(rb"gl(?:sa_[A-Za-z0-9]{32}_[a-f0-9]{8}|c_eyJ[\w+/=-]{30,})"),
    "Linear key": re.compile(rb"lin_(?:api|oauth)_[A-Za-z0-9]{32,}"),
    "Mailchimp key": re.compile(rb"(?<![a-f0-9])[a-f0-9]{32}-us\d{1,2}(?!\w)"),
    "Mailgun key": re.compile(rb"key-(?<![A-Za-z0-9_-]key-)[a-f0-9]{32}(?![a-f0-9])"),
    "key of a hosted model": re.compile(
        rb"(?<![A-Za-z0-9_-])(?:gsk_[A-Za-z0-9]{40,}|xai-[A-Za-z0-9]{60,}|pplx-[A-Za-z0-9]{40,}|r8_[A-Za-z0-9]{30,}"
        rb"|esecret_[A-Za-z0-9]{20,}|fw_(?=[A-Za-z]{0,30}\d)[A-Za-z0-9]{20,}|nvapi-[\w-]{50,}|tvly-[\w-]{24,}|pcsk_\w{40,})"
    ),
    "New Relic key": re.compile(rb"NRAK-[A-Z0-9]{27}"),
    "Notion token": re.compile(rb"(?<!\w)(?:secret_(?=[A-Za-z]{0,40}\d)[A-Za-z0-9]{43}|ntn_[A-Za-z0-9]{40,})(?!\w)"),
    "Shopify token": re.compile(rb"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}"),
    "Square token": re.compile(rb"sq0(?:atp|csp)-[\w-]{22,}"),
    "Supabase token": re.compile(rb"sbp_[a-f0-9]{40}"),
    "Telegram token": re.compile(rb"(?<!\d)\d{8,10}:AA[\w-]{33}(?![\w-])"),
    "Twilio key": re.compile(rb"SK(?<!\wSK)[a-f0-9]{32}(?!\w)"),
    "Vault token": re.compile(rb"hv[sb]\.(?<!\whv..)[\w-]{60,}"),
}
# What a text has to hold for a rule to match at all: most texts hold none, and a search for these costs little.
SIGNS: Mapping[str, tuple[bytes, ...]] = {
    "Hugging Face token": (b"hf_",),
    "API key (sk-…)": (b"sk-",),
    "AWS access key": (b"AKIA", b"ASIA"),
    "GitHub token": (b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_"),
    "GitLab token": (b"glpat-", b"gldt-", b"glrt-", b"glptt-", b"glsoat-"),
    "Google API key": (b"AIza", b"ya29."),
    "Slack token": (b"xox", b"xapp-"),
    "Slack webhook": (b"hooks.slack.com",),
    "Stripe key": (b"k_live_", b"k_test_", b"whsec_"),
    "PyPI token": (b"pypi-AgE",),
    "npm token": (b"npm_",),
    "SendGrid key": (b"SG.",),
    "DigitalOcean token": (b"_v1_",),
    "JSON Web Token": (b"eyJ",),
    "Azure storage key": (b"AccountKey=", b"SharedAccessKey="),
    "Azure signature": (b"sig=",),
    "private key": (b"PRIVATE KEY",),
    "Atlassian token": (b"TT3xFf",),
    "Databricks token": (b"dapi",),
    "Discord webhook": (b"/api/webhooks/",),
    "Docker token": (b"dckr_",),
    "Grafana token": (b"glsa_", b"glc_"),
    "Linear key": (b"lin_api_", b"lin_oauth_"),
    "Mailchimp key": (b"-us",),
    "Mailgun key": (b"key-",),
    "key of a hosted model": (
        *(b"gsk_", b"xai-", b"pplx-", b"r8_", b"esecret_", b"fw_", b"nvapi-", b"tvly-", b"pcsk_"),
    ),
    "New Relic key": (b"NRAK-",),
    "Notion token": (b"secret_", b"ntn_"),
    "Shopify token": (b"shp",),
    "Square token": (b"sq0",),
    "Supabase token": (b"sbp_",),
    "Telegram token": (b":AA",),
    "Twilio key": (b"SK",),
    "Vault token": (b"hvs.", b"hvb."),
}
SIGNS_ASSIGNED = (
    *(b"key", b"secret", b"token", b"passw", b"passphrase", b"pwd", b"credential", b"connection", b"bearer"),
    *(b"_pat", b"authorization"),
)
PRIVATE_KEY = re.compile(RULES["private key"].pattern + rb"[\s\S]*?(?:-----END [A-Z0-9 ]*-----|\Z)")  # with its body
# In text only. Azure's newer keys have these letters at one place; older ones look like any digest, but for their name.
AZURE_KEY = re.compile(rb"(?<![A-Za-z0-9])[A-Za-z0-9]{40,60}JQQJ99[A-Za-z0-9]{20,30}(?![A-Za-z0-9])")
PASSWORD_IN_URL = re.compile(rb"[a-zA-Z][a-zA-Z0-9+.-]{1,20}://[^\s/:@\"'<>]{0,80}:([^\s/@\"'<>]{3,200})@[\w\[]")
ASSIGNED = re.compile(
    rb"(?:(?:api|secret|access|account|subscription|private|auth|encryption|signing|master|storage|shared|license"
    rb"|azure|openai|anthropic|mistral|gemini|cohere|groq|deepseek|hugging ?face|llm|teacher)"
    rb"[ _-]?key|_pat\b|secret|token|passw(?:or)?d|passphrase|pwd|credentials?|connection[ _-]?string)"
    rb"(?:\\{0,3}[\"'`])?\s{0,3}(?:=>|:=|[:=]|\s(?=[\"'`]))\s{0,3}(?:\\{0,3}[\"'`])?"
    rb"([A-Za-z0-9+/=_.~!@#%^&*-]{12,500})"
    rb"|\b(?:bearer|authorization(?:\\{0,3}[\"'`])?\s{0,3}[:=]\s{0,3}(?:\\{0,3}[\"'`])?(?:token|key|apikey))"
    rb"\s{1,3}([A-Za-z0-9._~+/=-]{16,500})",
    re.IGNORECASE,
)
PLACEHOLDER = re.compile(
    rb"your|example|change.?me|placeholder|dummy|redacted|x{4}|\*{3}|1234567890ab|environ|getenv|^\W"
    rb"|(?-i:^[a-z_][a-z0-9_]*(?:\.[a-z_][a-z0-9_]*)+$)",  # an attribute, as settings.key_2
    re.IGNORECASE,
)
UPPER_NAME = re.compile(rb"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+")
BASE64 = re.compile(
    rb"(?<![A-Za-z0-9+/_-])([A-Za-z0-9+/_-]{16,}(?:\r?\n[A-Za-z0-9+/_-]{16,})*)(?:\r?\n([A-Za-z0-9+/_-]{2,15})(?![^=\r\n]))?"
)
# A name and a password in base64, as HTTP and Docker's config.json have them; and as .netrc has them.
LOGIN = re.compile(
    rb"(?:\bbasic\s{1,3}|[\"']auth\\{0,3}[\"']\s{0,3}:\s{0,3}\\{0,3}[\"'])([A-Za-z0-9+/]{8,500}={0,2})", re.IGNORECASE
)
NETRC = re.compile(rb"\b(?:login|user)\s{1,8}\S{1,80}\s{1,8}password\s{1,8}(\S{8,200})", re.IGNORECASE)
HEX = re.compile(rb"(?<![0-9A-Fa-f])(?:[0-9A-Fa-f]{2}){10,}(?![0-9A-Fa-f])")
ESCAPED = re.compile(rb"\\u00([0-9A-Fa-f]{2})|\\x([0-9A-Fa-f]{2})|%([0-9A-Fa-f]{2})|&#x([0-9A-Fa-f]{2});")
DECIMAL = re.compile(rb"&#([0-9]{2,3});")
TEXT_BYTES = 32 << 20  # of a file that is searched for more than fixed texts
SECRET_FILE = re.compile(
    r"\.env(?:\..*)?|.*\.(?:env|pem|key|p12|pfx|keystore|jks|ppk)|.*\.env\..*|id_(?:rsa|dsa|ecdsa|ed25519)(?:\.pub)?"
    r"|\.netrc|\.pypirc|\.npmrc|\.git-credentials|\.htpasswd|\.pgpass|kubeconfig|stored_tokens"
    r"|(?:.*[._-])?(?:credentials?|secrets?|tokens?|passwords?|api[_-]?keys?)(?:\.(?:json|ya?ml|toml|txt|md|ini|cfg|csv))?"
    r"(?<!special_tokens\.json)(?<!added_tokens\.json)",
    re.IGNORECASE,
)
PRINTABLE = frozenset(b"\t\n\r" + bytes(range(32, 127)))


@dataclass(frozen=True)
class Finding:
    """A credential in a file: where it is and what it is, never its value."""

    file: str
    line: int | None
    offset: int
    rule: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line is not None else f"{self.file} at byte {self.offset}"
        return f"{place}: {self.rule}"


def is_secret_file(name: str) -> bool:
    """Whether a file is a credential by its name (`.env`, `id_rsa`, `server.key`, …)."""
    return SECRET_FILE.fullmatch(name) is not None


def scan(content: Path | bytes, values: Mapping[str, str], name: str) -> list[Finding]:
    """Credentials in one file (its path or its bytes), in the order in which they stand there.

    Looks for what credentials look like (RULES), and for the exact `values` ({variable: value}), in text and in binary
    files alike. In text also for what is assigned to a name that secrets have, for passwords in addresses, and for all of
    these in UTF-16, escaped, as base64 and as hex. `name` is what a finding calls the file.
    """
    if isinstance(content, bytes):
        return _scan(content, values, name)
    if not content.stat().st_size:
        return []
    with open(content, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _scan(data, values, name)


def mask(text: str, values: Mapping[str, str]) -> str:
    """The text with `[masked: …]`, and what it was, in the place of every credential that `scan` finds in such a text.

    A credential that is escaped takes its line's escapes with it; one inside base64 or hex takes the whole run.
    """
    data = _mask_plain(text.encode("utf-8", "surrogatepass"), values)
    if any(sign in data for sign in (b"\\", b"%", b"&#")):
        data = b"\n".join(_mask_escaped(line, values) for line in data.split(b"\n"))
    data = BASE64.sub(lambda match: _mask_coded(match[0], values), data)
    return data.decode("utf-8", "surrogatepass")


def _mask_plain(data: bytes, values: Mapping[str, str]) -> bytes:
    for variable, value in values.items():
        for form in _longest_first(value):
            data = data.replace(form, _mark(f"value of {variable}"))
    for rule, pattern in {**RULES, **TEXT_RULES, "private key": PRIVATE_KEY}.items():
        if any(sign in data for sign in SIGNS[rule]):
            data = pattern.sub(_mark(rule), data)
    if b"JQQJ99" in data:
        data = AZURE_KEY.sub(_mark("Azure key"), data)
    if b"://" in data:
        data = PASSWORD_IN_URL.sub(_mask_password, data)
    lower = data.lower()
    return ASSIGNED.sub(_mask_assigned, data) if any(word in lower for word in SIGNS_ASSIGNED) else data


@functools.lru_cache(maxsize=256)
def _longest_first(value: str) -> list[bytes]:
    return sorted(_forms(value), key=len, reverse=True)


def _mark(rule: str) -> bytes:
    return f"[masked: {rule}]".encode()


def _mask_password(match: re.Match[bytes]) -> bytes:
    return _without_group(match, 1, "password in an address") if _is_password(match[1]) else match[0]


def _mask_assigned(match: re.Match[bytes]) -> bytes:
    group = 1 if match[1] is not None else 2
    return _without_group(match, group, "value of a name that secrets have") if _is_random(match[group]) else match[0]


def _without_group(match: re.Match[bytes], group: int, rule: str) -> bytes:
    start, end = match.start(group) - match.start(), match.end(group) - match.start()
    return match[0][:start] + _mark(rule) + match[0][end:]


def _mask_escaped(line: bytes, values: Mapping[str, str]) -> bytes:
    plain = _plain(line)
    if plain == line:
        return line
    masked = _mask_plain(plain, values)
    return line if masked == plain else masked


def _mask_coded(run: bytes, values: Mapping[str, str]) -> bytes:
    """A run of base64 or, within it, of hex digits, masked where what it says has a credential."""
    if said := _of_base64(run):
        found = next(iter(_in_text(said, values)), None)
        return run if found is None else _mark(found[1])
    return HEX.sub(lambda match: _mask_hex(match[0], values), run)


def _mask_hex(run: bytes, values: Mapping[str, str]) -> bytes:
    said = _of_hex(run)
    found = next(iter(_in_text(said, values)), None) if said else None
    return run if found is None else _mark(found[1])


def _scan(data: bytes | mmap.mmap, values: Mapping[str, str], name: str) -> list[Finding]:
    text = _text(data)
    if text is None:
        found, lines = set(_fixed(data, values)), None
    else:
        found = set(_in_text(text, values))
        if b"\0" in data[:]:  # taken for UTF-16, and perhaps binary all the same
            found |= set(_fixed(data, values))
        for start, kind, hidden in _hidden(text):
            found |= {(start, f"{rule} ({kind})") for _, rule in _in_text(hidden, values)}
        lines = list(_positions(text, b"\n"))
    return [
        Finding(name, None if lines is None else bisect_right(lines, offset) + 1, offset, rule)
        for offset, rule in sorted(found)
    ]


def _text(data: bytes | mmap.mmap) -> bytes | None:
    """The file as UTF-8 where it is text, also where it is UTF-16 without a mark; None where it is not, or very large."""
    if len(data) > TEXT_BYTES:
        return None
    content = data[:]
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", "replace").encode()
    if b"\0" not in content:
        return content
    for odd, codec in ((1, "utf-16-le"), (0, "utf-16-be")):
        if content[odd::2].count(0) > 0.6 * (len(content) // 2):
            return content.decode(codec, "replace").encode("utf-8", "replace")
    return None


def _fixed(data: bytes | mmap.mmap, values: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    """What can be searched for by a fixed text: the rules, and the values in all forms that they may have."""
    for rule, pattern in RULES.items():
        for match in pattern.finditer(data):
            yield match.start(), rule
    for variable, value in values.items():
        for form in _forms(value):
            for position in _positions(data, form):
                yield position, f"value of {variable}"


def _forms(value: str) -> set[bytes]:
    """A value in all its forms, and in UTF-16."""
    wide = {value.encode("utf-16-le", "surrogatepass"), value.encode("utf-16-be", "surrogatepass")}
    return {form.encode("utf-8", "surrogatepass") for form in forms(value)} | wide


def _in_text(text: bytes, values: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    yield from _fixed(text, values)
    for rule, pattern in TEXT_RULES.items():
        if any(sign in text for sign in SIGNS[rule]):
            yield from ((match.start(), rule) for match in pattern.finditer(text))
    for match in AZURE_KEY.finditer(text):
        yield match.start(), "Azure key"
    for match in PASSWORD_IN_URL.finditer(text):
        if _is_password(match[1]):
            yield match.start(), "password in an address"
    for match in ASSIGNED.finditer(text):
        if _is_random(match[1] or match[2]):
            yield match.start(), "value of a name that secrets have"
    for match in LOGIN.finditer(text):
        if b":" in (said := _decoded(match[1])) and _printable(said):
            yield match.start(), "name and password in base64"
    for match in NETRC.finditer(text):
        if _is_random(match[1]):
            yield match.start(), "password of a .netrc"


def _is_password(value: bytes) -> bool:
    """Whether what stands in an address's place for a password is one, and not a word that holds its place."""
    return not re.fullmatch(rb"(?i)pass(?:word|wd)?|secret|token|\$?[{(].*[)}]|\$\w+|\*+|x+|\.+", value)


def _is_random(value: bytes) -> bool:
    """Whether an assigned value is a secret rather than a placeholder, a variable or a word."""
    value = value.rstrip(b".,;=")
    if PLACEHOLDER.search(value) or UPPER_NAME.fullmatch(value) or not re.search(rb"[0-9]", value):
        return False
    if not re.search(rb"[A-Za-z]", value):
        return False
    counts = Counter(value)
    return -sum(n / len(value) * math.log2(n / len(value)) for n in counts.values()) >= 2.5


def _hidden(text: bytes) -> Iterator[tuple[int, str, bytes]]:
    """What the text holds in other forms: where it begins, the form, and what it says."""
    start = 0
    for line in text.split(b"\n"):
        plain = _plain(line)
        if plain != line:
            yield start, "escaped", plain
        start += len(line) + 1
    for match in BASE64.finditer(text):
        for body in {match[1], match[1] + (match[2] or b"")}:
            if _printable(coded := _decoded(body)):
                yield match.start(), "base64", coded
    for match in HEX.finditer(text):
        if said := _of_hex(match[0]):
            yield match.start(), "hex", said


def _plain(line: bytes) -> bytes:
    """A line without the escapes of JSON, Python, addresses and HTML."""
    return DECIMAL.sub(lambda match: bytes([int(match[1]) % 256]), ESCAPED.sub(_unescaped, line))


def _of_base64(run: bytes) -> bytes | None:
    """What a run of base64 says, if it is text."""
    body = b"".join(run.split()).rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
    said = base64.b64decode(body[: len(body) - (len(body) % 4 == 1)] + b"=" * (-len(body) % 4))
    return said if _printable(said) else None


def _of_hex(run: bytes) -> bytes | None:
    """What a run of hex digits says, if it is text."""
    said = bytes.fromhex(run.decode())
    return said if _printable(said) else None


def _decoded(text: bytes) -> bytes:
    body = b"".join(text.split()).rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
    return base64.b64decode(body[: len(body) - (len(body) % 4 == 1)] + b"=" * (-len(body) % 4))


def _unescaped(match: re.Match[bytes]) -> bytes:
    return bytes([int(next(filter(None, match.groups())), 16)])


def _printable(said: bytes) -> bool:
    return len(said) >= SHORTEST and all(byte in PRINTABLE for byte in said)


def _positions(data: bytes | mmap.mmap, text: bytes) -> Iterator[int]:
    position = data.find(text)
    while position >= 0:
        yield position
        position = data.find(text, position + len(text))
