"""What keeps a run from its answer is said before its first job, all of it at once."""

import json
import re
import subprocess
import sys

import pytest

from fledgling import artefacts, contenders
from fledgling.artefacts import Datasheet
from fledgling.config import load, spelled, where
from fledgling.decision.power import power
from fledgling.errors import ConfigError
from fledgling.files import canonical, write_jsonl
from fledgling.forecast import start, surroundings
from fledgling.graph.terminal import told


@pytest.fixture
def configured(root, tmp_path, monkeypatch):
    """A configuration over the default, from a text of YAML."""
    for name in ("AZURE_ENDPOINT", "AZURE_DEPLOYMENT", "AZURE_API_KEY", "AZURE_API_VERSION", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)

    def of(text="", *more):
        path = tmp_path / "overlay.yaml"
        path.write_text(text or "{}")
        return load(root / "config/config.yaml", *more, path, selected=False)

    return of


def test_all_missing_variables_are_named_at_once(configured, root):
    config = configured("", root / "config/phi4-mini.yaml")
    with pytest.raises(ConfigError) as refused:
        start.require(config, asked={"toolcall"}, prepared=set(), results=root / "no-such")
    for name in ("AZURE_ENDPOINT", "AZURE_DEPLOYMENT", "AZURE_API_KEY", "AZURE_API_VERSION"):
        assert f"  {name} is not set" in str(refused.value)
    start.require(config, asked=set(), prepared=set(), results=root / "no-such")


@pytest.mark.parametrize(
    ("environment", "missing"),
    [
        ({"AZURE_ENDPOINT": "https://x.openai.azure.com"}, {"AZURE_DEPLOYMENT", "AZURE_API_VERSION", "AZURE_API_KEY"}),
        (
            {"AZURE_ENDPOINT": "https://x.openai.azure.com/openai/deployments/d/chat/completions?api-version=1"},
            {"AZURE_API_KEY"},
        ),
        ({"AZURE_ENDPOINT": "https://x.models.ai.azure.com", "AZURE_API_KEY": "k"}, {"AZURE_DEPLOYMENT"}),
    ],
)
def test_what_the_address_says_is_not_missing(configured, root, environment, missing):
    config = configured("teacher: {headers: {X-Key: GATEWAY_KEY}}", root / "config/phi4-mini.yaml")
    assert set(start.unset_variables(config, environment)) == missing | {"GATEWAY_KEY"}


def test_an_entra_token_needs_no_key(configured, root):
    config = configured("teacher: {auth: entra}", root / "config/phi4-mini.yaml")
    assert "AZURE_API_KEY" not in start.unset_variables(config, {})


def test_a_server_on_this_machine_needs_no_key(configured):
    local = "teacher: {provider: openai, model: m, base_url: 'http://localhost:8000/v1'}"
    assert start.unset_variables(configured(local), {}) == {}
    assert set(start.unset_variables(configured("teacher: {provider: openai, model: m}"), {})) == {"OPENAI_API_KEY"}


@pytest.mark.parametrize(
    ("text", "environment", "says"),
    [
        (
            "teacher: {provider: openai, model: m, base_url: 'htp://x'}",
            {},
            "teacher.base_url is no address.*https://HOST/v1",
        ),
        ("teacher: {provider: openai, model: null}", {}, "teacher.model: this key is missing"),
        ("teacher: {provider: azure}", {"AZURE_ENDPOINT": "x"}, "AZURE_ENDPOINT is no address.*NAME.openai.azure.com"),
    ],
)
def test_check_finds_what_a_run_would_refuse(configured, tmp_path, monkeypatch, text, environment, says):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    config = configured(f"journal: {tmp_path}/journal\n{text}")
    with pytest.raises(ConfigError, match=says):
        start.require(config, asked={"toolcall"}, prepared=set(), results=tmp_path)
    problems = [finding.problem or "" for finding in surroundings.look(config, results=tmp_path)]
    assert any(re.search(says, problem) for problem in problems), problems


def rows(results, track, count, split="test"):
    turns = [{"role": "user", "content": "Say it as JSON"}]
    write_jsonl(
        results / f"data/{track}/{split}.jsonl",
        [
            {
                "id": f"{split}{i}",
                "group": f"{split}{i}",
                "messages": [{"role": "user", "content": f"{split} {i}"}, *turns],
                "answer": {"a": i},
            }
            for i in range(count)
        ],
    )


def test_a_budget_that_the_rows_exceed_is_refused(configured, tmp_path):
    rows(tmp_path, "structured", 30)
    config = configured(f"journal: {tmp_path}/journal\nteacher: {{budget: {{calls: 29}}}}")
    with pytest.raises(ConfigError, match=r"teacher.budget.calls: 29 a run, and the rows need 30 calls; set it to 30"):
        start.require(config, asked={"structured"}, prepared={"structured"}, results=tmp_path)
    enough = configured(f"journal: {tmp_path}/journal\nteacher: {{budget: {{calls: 30}}}}")
    start.require(enough, asked={"structured"}, prepared={"structured"}, results=tmp_path)
    poor = configured(f"journal: {tmp_path}/journal\nteacher: {{budget: {{money: 0.0001}}}}")
    with pytest.raises(ConfigError, match=r"teacher.budget.money: 0.0001 USD a run, and the rows need about 0\.\d+"):
        start.require(poor, asked={"structured"}, prepared={"structured"}, results=tmp_path)
    start.require(poor, asked={"structured"}, prepared=set(), results=tmp_path)


def test_a_budget_pays_for_the_rows_of_val_too(configured, tmp_path):
    """They are asked where val says which contenders are built, and not where all are."""
    rows(tmp_path, "structured", 18)
    rows(tmp_path, "structured", 8, "val")
    track = {"asked": {"structured"}, "prepared": {"structured"}, "results": tmp_path}
    short = f"journal: {tmp_path}/journal\nteacher: {{budget: {{calls: 20}}}}"
    with pytest.raises(ConfigError, match=r"teacher.budget.calls: 20 a run, and the rows need 26 calls"):
        start.require(configured(short), **track)
    start.require(configured(short.replace("20", "26")), **track)
    start.require(configured(f"{short}\ntracks: {{structured: {{finetune: always}}}}"), **track)


def test_money_without_prices_is_refused_when_the_configuration_is_read(configured):
    with pytest.raises(ConfigError, match=r"overlay.yaml:1: teacher.budget.money: needs teacher.prices.*fill in"):
        configured("teacher: {prices: null, budget: {money: 50}}")


def test_a_key_is_named_as_it_is_set(configured):
    own = spelled(configured("contenders: {short: {max_new_tokens: 8}, tuned: {adapter: sft, batch_size: 4}}"))
    name = contenders.spelled
    assert name(own, "short", "structured", "max_new_tokens") == "contenders.short.max_new_tokens"
    assert name(own, "slm", "structured", "max_new_tokens") == "tracks.structured.max_new_tokens"
    assert name(own, "short", "structured", "max_prompt_tokens") == "slm.max_prompt_tokens"
    assert name(own, "sft.2", "structured", "batch_size") == "contenders.tuned.batch_size"


def test_prepare_says_what_its_rows_can_show(configured, root, tmp_path):
    source = tmp_path / "rows.jsonl"
    write_jsonl(
        source,
        [
            {"messages": [{"role": "user", "content": f"Question {i * 7919} of {i}"}], "answer": {"a": i}}
            for i in range(74)
        ],
    )
    config = configured(
        f"tracks: {{toolcall: null, structured: null, mail: {{kind: structured, margin: 0.1,"
        f" sources: [{{path: {source}, split: test}}]}}}}"
    )
    out = {name: tmp_path / f"results/data/mail/{name}.jsonl" for name in ("train", "val", "test")}
    sheet = tmp_path / "results/data/mail/datasheet.json"
    settings = {"seed": 1, "track": {"kind": "structured", "sources": config["tracks"]["mail"]["sources"]}}
    done = subprocess.run(
        [sys.executable, str(root / "scripts/prepare.py"), "--track", "mail", "--settings", canonical(settings)]
        + [part for name, path in out.items() for part in (f"--{name}", str(path))]
        + ["--datasheet", str(sheet)],
        env={"PYTHONPATH": str(root / "src"), "PATH": "", "FLEDGLING_WHERE": json.dumps(where(config))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = artefacts.read(Datasheet, sheet)["power"]
    same = power(74, margin=0.1, alpha=0.05, power=0.8, source_rows=74)
    assert found["margin"] == 0.1
    assert found["chances"] == {f"{share:g}": round(value, 6) for share, value in same.chances.items()}
    assert found["safe_rows"] == same.safe_rows
    assert found["sentence"] in done.stderr
    assert found["sentence"] in told(tmp_path, "prepare", ["results/data/mail/datasheet.json"])
