"""Credentials are found by form and by value, named by place and kind, and never repeated."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fledgling.publishing.secrets import is_secret_file, scan, secret_values

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
    assert set(secret_values(environment)) == {"HF_TOKEN", "AZURE_API_KEY", "LANGFUSE_SECRET_KEY", "DB_PASSWORD"}


@pytest.mark.parametrize("name", [".env", ".env.local", "prod.env", "id_rsa", "server.key", "cert.pem", ".netrc"])
def test_credential_files(name: str) -> None:
    assert is_secret_file(name)


@pytest.mark.parametrize("name", ["tokenizer.json", "environment.yaml", "keys.json", "special_tokens_map.json"])
def test_other_files(name: str) -> None:
    assert not is_secret_file(name)
