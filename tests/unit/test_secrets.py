"""Credentials are found by form and by value, named by place and kind, and never repeated."""

import base64
import json
import random
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fledgling import redaction, secrets
from fledgling.secrets import is_secret_file, mask, scan

# Put together here, so that this file holds no credential itself.
SAMPLES = {
    "Hugging Face token": "hf_" + "aBcD" * 8 + "xy",
    "API key (sk-…)": "sk-" + "proj-Ab12_cd34-" + "Z9" * 14,
    "AWS access key": "AKIA" + "IOSFODNN7EXAMPLE",
    "GitHub token": "ghp_" + "a1B2" * 9,
    "Google API key": "AIza" + "x" * 35,
    "private key": "-----BEGIN " + "OPENSSH PRIVATE KEY-----",
}
INNOCENT = [
    "task-management-system-with-123-parts",
    "risk-adjusted-return-over-20-years",
    "the hf_hub_download function, hf_transformers_checkpoint_path",
    "sk-learn-pipelines",
    "sha256 " + "0123456789abcdef" * 4,
    "BAKIAIOSFODNN7EXAMPLE1",
    "-----BEGIN PUBLIC KEY-----",
    "key-value store, key-0123, made in-us12, the SK learn library, shpat_ and gsk_ and fw_hidden_states_projection_2",
    "cache_key: block_12_attention_33, sort_key=layer_12_head_03x, openai key: your-openai-key-here1, _pat: 3",
    "at 1234567890:AAPL and MSFT, secret_sauce_of_the_house_number_12, the Azure key vault, Authorization: token required",
]


@pytest.mark.parametrize("rule", SAMPLES)
def test_each_form_is_found_with_its_line(rule: str) -> None:
    text = f'{{"a": 1,\n "note": "use {SAMPLES[rule]} here"}}\n'.encode()
    (finding,) = scan(text, {}, "training.json")
    assert (finding.line, finding.rule) == (2, rule)
    assert str(finding) == f"training.json:2: {rule}"


@pytest.mark.parametrize(
    "key", ["sk-" + "a" * 24, "sk-" + "ant-api03-" + "Q1" * 20, "sk-lf-" + "1234abcd-" * 3 + "12ab"]
)
def test_forms_of_api_keys(key: str) -> None:
    assert [f.rule for f in scan(f"key={key}".encode(), {}, "x")] == ["API key (sk-…)"]


@pytest.mark.parametrize("text", INNOCENT)
def test_innocent_text_passes(text: str) -> None:
    assert scan(text.encode(), {}, "README.md") == []


def test_binary_files_are_searched_too(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"\0\1\2" * 5000 + b"my-azure-value-77" + b"\xff" * 100)
    (finding,) = scan(file, {"AZURE_API_KEY": "my-azure-value-77"}, "w.safetensors")
    assert str(finding) == "w.safetensors at byte 15000: value of AZURE_API_KEY"


def test_other_encodings(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("first\n" + SAMPLES["AWS access key"] + "\n", encoding="utf-16")
    assert [f.line for f in scan(file, {}, "notes.txt")] == [2]
    value = 'pass"word\\1'
    assert scan(b'{"k": "pass\\"word\\\\1"}', {"DB_PASSWORD": value}, "x.json")[0].rule == "value of DB_PASSWORD"


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    assert scan(tmp_path / "empty.txt", {"HF_TOKEN": "whatever-1"}, "empty.txt") == []


@given(before=st.text(), after=st.text(), value=st.from_regex(r"[A-Za-z0-9/+=_-]{8,40}[0-9]", fullmatch=True))
def test_a_value_is_found_anywhere_and_never_shown(before: str, after: str, value: str) -> None:
    data = before.encode("utf-8", "ignore") + value.encode() + after.encode("utf-8", "ignore")
    found = [f for f in scan(data, {"HF_TOKEN": value}, "x") if f.rule == "value of HF_TOKEN"]
    assert found
    assert all(value not in str(f) for f in found)


def test_which_variables_hold_secrets() -> None:
    environment = {
        "HF_TOKEN": "tok-12345678",
        "AZURE_API_KEY": "0123456789abcdef",
        "OPENAI_API_KEY": "EMPTY",
        "LANGFUSE_SECRET_KEY": "a-very-long-one",
        "DB_PASSWORD": "correcthorsebattery",
        "TEACHER_API_KEY": "simulated",
        "AZURE_ENDPOINT": "https://example.com/x",
        "HOME": "/home/somebody",
        "TOKENIZERS_PARALLELISM": "false-false",
    }
    assert set(redaction.in_environment(environment)) == {
        "HF_TOKEN",
        "AZURE_API_KEY",
        "LANGFUSE_SECRET_KEY",
        "DB_PASSWORD",
    }


@pytest.mark.parametrize("name", [".env", ".env.local", "prod.env", "id_rsa", "server.key", "cert.pem", ".netrc"])
def test_credential_files(name: str) -> None:
    assert is_secret_file(name)


@pytest.mark.parametrize("name", ["tokenizer.json", "environment.yaml", "keys.json", "special_tokens_map.json"])
def test_other_files(name: str) -> None:
    assert not is_secret_file(name)


# Put together here, too. What has no form of its own is found by the name that it is assigned to.
HEX32, WORD = "0f1e2d3c4b5a69788796a5b4c3d2e1f0", "AbCdEfGhIjKlMnOpQrSt12"
SECRETS = {
    "azure": f"AZURE_API_KEY={HEX32}",
    "azure in json": f'{{"azure_api_key": "{HEX32}"}}',
    "azure in yaml": f"subscription-key: {HEX32}",
    "azure, newer": "A1b2" * 13 + "JQQJ99" + "AbC4" * 6 + "Xy",
    "storage": "AccountName=x;AccountKey=" + "Ab1+" * 21 + "==;EndpointSuffix=core",
    "signature": "https://x.blob.core.windows.net/c?sv=2024&sig=" + "aB3%2F" * 9,
    "slack": "xox" + "b-123456789012-1234567890123-" + WORD,
    "slack webhook": "https://hooks.slack." + "com/services/T0123456/B0123456/" + WORD,
    "stripe": "sk_" + "live_4eC39HqLyjWDarjtT1zdp7dc",
    "gitlab": "glpat" + "-" + WORD,
    "pypi": "pypi" + "-AgEIcHlwaS5vcmc" + WORD * 2,
    "npm": "npm" + "_" + "aB3" * 12,
    "jwt": "eyJ" + "hbGciOiJIUzI1NiJ9.eyJ" + "zdWIiOiIxMjM0In0." + WORD,
    "url": "https://bob:hunter2hunter2@example.com/x.git",
    "database": "postgresql://admin:s3cr3t-pw@db.internal:5432/x",
    "aws secret": "aws_secret_access_key = wJalrXUtnFEMIK7MDENGbPxRfiCY9Qm2LpZ4tR8v",
    "password": 'password: "hunter2hunter2"',
    "bearer": f"Authorization: Bearer {WORD}9z",
    "client secret": f"client_secret='{WORD}~7Q'",
    "hub": "hf" + "_" + "aBcD" * 9,
}


def _some(length: int, signs: str = string.ascii_letters + string.digits) -> str:
    return "".join(_LOTS.choice(signs) for _ in range(length))


_LOTS, HEX_SIGNS = random.Random(3), "0123456789abcdef"
SECRETS |= {
    "openai project": "sk-" + "proj-" + _some(48),
    "openai old": "sk-" + _some(48),
    "anthropic": "sk-" + "ant-api03-" + _some(90),
    "openrouter": "sk-" + "or-v1-" + _some(64, HEX_SIGNS),
    "langfuse secret": "sk-" + "lf-" + "1a2b3c4d-5e6f-7a8b-9c0d-1e2f3a4b5c6d",
    "github pat": "github_" + "pat_" + _some(22) + "_" + _some(59),
    "github oauth": "gho_" + _some(36),
    "github app": "ghs_" + _some(36),
    "aws session": "ASIA" + _some(16, string.ascii_uppercase + string.digits),
    "aws pair": "AKIA"
    + _some(16, string.ascii_uppercase + string.digits)
    + "\n"
    + "aws_secret_access_key="
    + _some(40),
    "gcp key": "AIza" + _some(35),
    "gcp oauth": "ya29." + _some(60),
    "gcp account": '"private_key": "-----BEGIN ' + 'PRIVATE KEY-----\\nMIIEvQ"',
    "rsa": "-----BEGIN " + "RSA PRIVATE KEY-----",
    "pgp": "-----BEGIN " + "PGP PRIVATE KEY BLOCK-----",
    "ec": "-----BEGIN " + "EC PRIVATE KEY-----",
    "slack app": "xapp-" + "1-A0123456789-1234567890123-" + _some(30, HEX_SIGNS),
    "slack user": "xoxp-" + "123456789012-123456789012-" + _some(24),
    "stripe restricted": "rk_" + "live_" + _some(24),
    "stripe webhook": "whsec_" + _some(32),
    "sendgrid": "SG." + _some(22) + "." + _some(43),
    "digitalocean": "dop_" + "v1_" + _some(64, HEX_SIGNS),
    "gitlab runner": "glrt-" + _some(20),
    "wandb": "WANDB_API_KEY=" + _some(40, HEX_SIGNS),
    "replicate": "REPLICATE_API_TOKEN=r8_" + _some(37),
    "cohere": "COHERE_API_KEY=" + _some(40),
    "mistral": "MISTRAL_API_KEY: " + _some(32),
    "together": "together_api_key=" + _some(64, HEX_SIGNS),
    "databricks": "DATABRICKS_TOKEN=dapi" + _some(32, HEX_SIGNS),
    "azure ad secret": "AZURE_CLIENT_SECRET=" + _some(3) + "8Q~" + _some(34),
    "service bus": "Endpoint=sb://x.servicebus.windows.net/;SharedAccessKeyName=Root;SharedAccessKey="
    + _some(43)
    + "=",
    "mongo": "mongodb+srv://app:" + _some(14) + "1@cluster0.abcde.mongodb.net/db",
    "redis": "redis://:" + _some(20) + "9@cache.internal:6379/0",
    "amqp": "amqp://svc:" + _some(12) + "7@mq:5672/v",
    "basic header": "Authorization: Basic " + base64.b64encode(b"admin:" + _some(16).encode()).decode(),
    "docker auth": '{"auths": {"r.example.com": {"auth": "'
    + base64.b64encode(b"bob:" + _some(16).encode()).decode()
    + '"}}}',
    "netrc": "machine example.com login bob password " + _some(16) + "4",
    "kube token": "token: " + "eyJ" + _some(30) + ".eyJ" + _some(60) + "." + _some(40),
    "django": "SECRET_KEY = 'django-insecure-" + _some(40) + "1'",
    "azure, by another name": "AZURE_OPENAI_KEY=" + _some(32, HEX_SIGNS),
    "openai key": "openai_key = '" + _some(40) + "1'",
    "azure devops": "AZURE_DEVOPS_EXT_PAT=" + _some(51).lower() + "1",
    "authorization token": "Authorization: token " + _some(39) + "1",
    "discord": "https://discord." + "com/api/webhooks/123456789012345678/" + _some(68),
    "groq": "gsk_" + _some(52),
    "xai": "xai-" + _some(80),
    "perplexity": "pplx-" + _some(48),
    "replicate, bare": "r8_" + _some(37),
    "anyscale": "esecret_" + _some(26),
    "fireworks": "fw_" + _some(23) + "1",
    "nvidia": "nvapi-" + _some(64),
    "tavily": "tvly-" + _some(32),
    "pinecone": "pcsk_" + _some(60),
    "databricks, bare": "dapi" + _some(32, HEX_SIGNS),
    "twilio": "SK" + _some(32, HEX_SIGNS),
    "linear": "lin_" + "api_" + _some(40),
    "notion": "ntn_" + _some(46),
    "notion, older": "secret_" + _some(42) + "1",
    "shopify": "shpat_" + _some(32, HEX_SIGNS),
    "square": "sq0atp-" + _some(22),
    "mailgun": "key-" + _some(32, HEX_SIGNS),
    "mailchimp": _some(32, HEX_SIGNS) + "-us12",
    "telegram": "123456789:AA" + _some(33),
    "vault": "hvs." + _some(90),
    "docker": "dckr_" + "pat_" + _some(27),
    "grafana": "glsa_" + _some(32) + "_" + _some(8, HEX_SIGNS),
    "new relic": "NRAK-" + _some(27, string.ascii_uppercase + string.digits),
    "atlassian": "ATATT3xFf" + _some(180),
    "supabase": "sbp_" + _some(40, HEX_SIGNS),
    "npmrc": "//registry.npmjs.org/:_authToken=npm_" + _some(36),
}
FORMS = {
    "text": lambda text: text.encode(),
    "utf-16 with a mark": lambda text: text.encode("utf-16"),
    "utf-16-le": lambda text: text.encode("utf-16-le"),
    "utf-16-be": lambda text: text.encode("utf-16-be"),
    "in a json string": lambda text: json.dumps({"note": text}).encode(),
    "\\u escapes": lambda text: "".join(f"\\u{ord(sign):04x}" for sign in text).encode(),
    "\\x escapes": lambda text: "".join(f"\\x{ord(sign):02x}" for sign in text).encode(),
    "percent": lambda text: "".join(f"%{ord(sign):02X}" for sign in text).encode(),
    "html, hex": lambda text: "".join(f"&#x{ord(sign):x};" for sign in text).encode(),
    "html": lambda text: "".join(f"&#{ord(sign)};" for sign in text).encode(),
    "base64": lambda text: base64.b64encode(text.encode()),
    "base64, for addresses": lambda text: base64.urlsafe_b64encode(b" " + text.encode()).rstrip(b"="),
    "base64 in lines": lambda text: base64.encodebytes(
        b"some words before it, so that there are lines: " + text.encode()
    ),
    "hex": lambda text: text.encode().hex().encode(),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_found_in_every_form(secret: str, form: str) -> None:
    coded = FORMS[form](SECRETS[secret])
    around = "utf-16" if "mark" in form else form if form.startswith("utf") else "utf-8"
    before, after = (words.encode(around.removesuffix(" with a mark")) for words in ("# Card\n\nsee ", "\nmore\n"))
    data = coded + after if "mark" in form else before + coded + after
    assert scan(data, {}, "README.md"), f"{secret} as {form}"


def test_harmless_folders_raise_no_alarm() -> None:
    """What adapters and cards are made of: digests, revisions, settings, code with placeholders, tables."""
    lots = random.Random(7)
    alarms = []
    for number in range(1000):
        sha, git = lots.randbytes(32).hex(), lots.randbytes(20).hex()
        card = HARMLESS.format(
            sha=sha, git=git, n=number, lr=lots.random(), image=base64.b64encode(lots.randbytes(300)).decode()
        )
        alarms += [f"{number}: {finding}" for finding in scan(card.encode(), {}, "README.md")]
    assert len(alarms) <= 10, alarms[:20]


HARMLESS = """---
license: mit
base_model: microsoft/Phi-4-mini-instruct
base_model_revision: {git}
tags: [lora, peft, token-classification]
---
# Adapter {n}

| file | sha256 |
|---|---|
| adapter_model.safetensors | {sha} |

manifest digest: `{sha}`, data key: {sha}, split_key: fledgling-{n}, dedup_key={sha}
Set `AZURE_API_KEY` and `HF_TOKEN`. `OPENAI_API_KEY=$OPENAI_API_KEY`, `api_key = os.environ["OPENAI_API_KEY"]`,
`token: ${{HF_TOKEN}}`, `password: <your password>`, `api_key="YOUR_API_KEY_HERE_1"`, `token=hf_xxxxxxxxxxxx`,
`--token $(cat token)`, `client = OpenAI(api_key=settings.api_key_2)`, `secret: changeme123456`.
https://huggingface.co/org/repo/blob/{git}/README.md?download=true, http://user:password@proxy:8080, git@github.com:o/r.git
```json
{{"eos_token": "<|end|>", "pad_token_id": 199999, "tokenizer_class": "GPT2TokenizerFast", "max_new_tokens": 256,
"prompt_tokens": 123456, "learning_rate": {lr}, "target_modules": ["qkv_proj", "o_proj"], "auto_mapping": null,
"tool_call_token": "<|tool_call|>", "added_tokens_decoder": {{"200020": {{"content": "<|end|>"}}}},
"request": "{sha}", "fingerprint": "sha256:{sha}", "rows": [{{"id": "structured-7-{n}", "answer": {{"token": "blue"}}}}]}}
```
![gap](data:image/png;base64,{image})
The secret of a good margin: 0.05. Tokens: 123,456,789,012. Password reset requests answered: 97.5 percent of them.
"""


@pytest.mark.parametrize("rule", SAMPLES)
@pytest.mark.parametrize(
    "form",
    [
        str,
        lambda text: f"use {text} here",
        json.dumps,
        lambda text: base64.b64encode(f"it is {text}".encode()).decode(),
        lambda text: text.encode().hex(),
        lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    ],
    ids=["alone", "in a sentence", "JSON", "base64", "hex", "percent"],
)
def test_what_is_found_is_masked(rule: str, form) -> None:
    masked = mask(form(SAMPLES[rule]), {})
    assert f"[masked: {rule}]" in masked
    assert SAMPLES[rule] not in masked
    assert scan(masked.encode(), {}, "x") == []


def test_a_private_key_is_masked_with_its_body() -> None:
    key = SAMPLES["private key"] + "\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END OPENSSH " + "PRIVATE KEY-----"
    assert mask(f"before {key} after", {}) == "before [masked: private key] after"


def test_only_the_secret_is_masked() -> None:
    assert mask("postgres://me:s3cr3t-pw@db/x", {}) == "postgres://me:[masked: password in an address]@db/x"
    assert mask('{"api_key": "a8f5f167f44f4964e6c998de"}', {}).startswith('{"api_key": "[masked: ')
    assert mask("ask my-azure-value-77", {"AZURE_API_KEY": "my-azure-value-77"}) == (
        "ask [masked: value of AZURE_API_KEY]"
    )


@pytest.mark.parametrize("text", [*INNOCENT, "", "\ud800 lone", "línea\u2028\nzwei", "100%25 sure &#65;"])
def test_innocent_text_stays_as_it_is(text: str) -> None:
    assert mask(text, {"HF_TOKEN": "whatever-1"}) == text


@given(before=st.text(), after=st.text(), value=st.from_regex(r"[A-Za-z0-9/+=_-]{8,40}[0-9]", fullmatch=True))
def test_a_masked_value_is_nowhere(before: str, after: str, value: str) -> None:
    assert value not in mask(before + value + after, {"HF_TOKEN": value}).replace("HF_TOKEN", "")


@pytest.mark.parametrize("rule", secrets.RULES)
@given(data=st.data())
def test_whatever_a_rule_matches_has_a_sign_of_it(rule: str, data) -> None:
    found = data.draw(st.from_regex(secrets.RULES[rule]))
    assert secrets.RULES[rule].search(found)
    assert any(sign in found for sign in secrets.SIGNS[rule])


@given(st.from_regex(secrets.ASSIGNED))
def test_whatever_is_assigned_to_a_secret_name_has_a_sign_of_it(found: bytes) -> None:
    assert any(sign in found.lower() for sign in secrets.SIGNS_ASSIGNED)
