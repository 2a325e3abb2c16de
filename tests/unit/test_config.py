from argparse import Namespace
from pathlib import Path

import pytest

from fledgling import config, contenders
from fledgling.errors import ConfigError
from fledgling.graph import options


@pytest.fixture
def default(root):
    return root / "config/config.yaml"


def test_where_keys_are_no_settings(root, default):
    loaded = config.load(default, root=root)
    assert "concurrency" not in config.section(loaded, "teacher")
    assert config.where(loaded)["teacher"]["concurrency"] == loaded["teacher"]["concurrency"]
    assert config.section(loaded, "decision") == loaded["decision"]
    assert config.where(loaded)["journal"] == loaded["journal"]


def test_a_track_set_to_null_is_removed(root, default, tmp_path):
    (tmp_path / "o.yaml").write_text("tracks: {structured: null}")
    assert set(config.load(default, tmp_path / "o.yaml", root=root)["tracks"]) == {"toolcall"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "not YAML"),
        ("- 1", "expected keys and values"),
        ("seed: true", "seed"),
        ("\nteacher:\n  concurency: 3", r"o.yaml:3: teacher.concurency: unknown key; did you mean 'concurrency'"),
        ("tracks: {t: {kind: toolcall, sources: [], finetune: never, max_new_tokens: 8}}", "tracks.t.sources"),
        (
            "tracks: {t: {kind: toolcall, sources: [{path: a, embedded: toolcall}], finetune: never, max_new_tokens: 8}}",
            "exactly one of: path, hub, embedded",
        ),
        (
            "tracks: {t: {kind: structured, sources: [{embedded: toolcall, rows: 3, split: test}], finetune: never, "
            "max_new_tokens: 8}}",
            "rows of kind toolcall in a track of kind structured",
        ),
        ("tracks: {toolcall: {recipe: {rnk: 3}}}", "did you mean 'rank'"),
        (
            "tracks: {toolcall: {splits: {train: 0.6, val: 0, test: 0.4}}}",
            "tracks.toolcall.splits.val: 0 rows cannot say how far contenders are built",
        ),
        ("publish: {repo_id: me/one}", "several tracks would overwrite each other"),
        ("tracks: {'A b': {kind: toolcall}}", "names are made of"),
        ("trace:\n  mask: ['[a-']", r"o.yaml:2: trace.mask.0: not a regular expression"),
        ("trace: {to: [langfuze]}", "did you mean 'langfuse'"),
    ],
)
def test_what_is_wrong_is_named(root, default, tmp_path, text, says):
    (tmp_path / "o.yaml").write_text(text)
    with pytest.raises(ConfigError, match=says):
        config.load(default, tmp_path / "o.yaml", root=root)


@pytest.mark.parametrize(
    ("text", "line", "first", "key"),
    [
        ("decision: {margin: 0.02}\nseed: 3\ndecision: {alpha: 0.04}\n", 3, 1, "decision"),
        ("tracks: {structured: null}\ntracks: {toolcall: {margin: 0.1}}\n", 2, 1, "tracks"),
        ("teacher:\n  budget: {calls: 5}\n  seed: 1\n  budget: {money: 1}\n", 4, 2, "teacher.budget"),
        ("tracks:\n  m:\n    sources:\n      - rows: 3\n        'rows': 4\n", 5, 4, "tracks.m.sources.0.rows"),
    ],
)
def test_a_key_that_occurs_twice_is_refused_with_both_lines(root, default, tmp_path, text, line, first, key):
    """YAML keeps the last alone, and a budget would have no limit."""
    (tmp_path / "o.yaml").write_text(text)
    with pytest.raises(ConfigError, match=rf"o.yaml:{line}: {key}: this key is on line {first} already"):
        config.load(default, tmp_path / "o.yaml", root=root)


def test_a_merged_block_repeats_no_key(root, default, tmp_path):
    text = "decision: &d\n  margin: 0.02\nadapters:\n  sft: &s {rank: 4}\n  other:\n    <<: *s\n    rank: 8\n"
    (tmp_path / "o.yaml").write_text(text)
    loaded = config.load(default, tmp_path / "o.yaml", root=root)
    assert loaded["adapters"] == {"sft": {"rank": 4}, "other": {"rank": 8}}


@pytest.mark.parametrize(
    ("block", "says"),
    [
        (
            "{learning_rate: 2e-4}",
            r"learning_rate: '2e-4' is text, not a number; write 0.0002 \(YAML reads 2e-4 as text",
        ),
        ("{rank: -3}", "rank: -3 is less than the minimum of 1"),
        ("{epochs: lots}", "epochs: .*is not of type"),
        ("{scheduler: cosin}", "scheduler: .*did you mean 'cosine'"),
        ("{rnk: 3}", "rnk: unknown key; did you mean 'rank'"),
        ("{candidates: 2}", "candidates: the same for all"),
        ("{rank: null}", "rank: "),
    ],
)
@pytest.mark.parametrize(("before", "after"), [("tracks: {toolcall: {recipe: ", "}}"), ("adapters: {sft: ", "}")])
def test_what_goes_over_the_recipe_is_checked_as_the_recipe_is(root, default, tmp_path, before, after, block, says):
    (tmp_path / "o.yaml").write_text(f"{before}{block}{after}")
    with pytest.raises(ConfigError, match=rf"o.yaml:1: (tracks\.toolcall\.recipe|adapters\.sft)\.{says}"):
        config.load(default, tmp_path / "o.yaml", root=root)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tracks: {tolcall: null}", "tracks.tolcall: null removes a track, .*did you mean 'toolcall'"),
        ("contenders: {tunde: null}", "contenders.tunde: null removes a contender, .*did you mean 'tuned'"),
        ("adapters: {stf: ~}", "adapters.stf: null removes an adapter, .*did you mean 'sft'"),
        ("models: {slim: null}", "models.slim: null removes a model, .*did you mean 'slm'"),
    ],
)
def test_a_block_that_is_nowhere_cannot_be_removed(root, default, tmp_path, text, says):
    """Or a slip of the pen keeps the track that was to go, and its answers are paid for."""
    (tmp_path / "o.yaml").write_text(text)
    with pytest.raises(ConfigError, match=f"o.yaml:1: {says}"):
        config.load(default, tmp_path / "o.yaml", root=root)


def test_a_block_may_be_removed_twice(root, default, tmp_path):
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text("tracks: {structured: null}")
    assert set(config.load(default, tmp_path / "a.yaml", tmp_path / "b.yaml", root=root)["tracks"]) == {"toolcall"}


@pytest.mark.parametrize(
    ("text", "key", "name"),
    [
        ("tracks: {2024: {kind: toolcall}}", "tracks.2024", "2024"),
        ("tracks: {no: {kind: toolcall}}", "tracks.no", "no"),
        ("2026-10-01: 1", "2026-10-01", "2026-10-01"),
        ("tracks: {toolcall: {sources: [{embedded: toolcall, 3: 4}]}}", "tracks.toolcall.sources.0.3", "3"),
    ],
)
def test_a_key_that_yaml_takes_for_no_text_is_named(root, default, tmp_path, text, key, name):
    (tmp_path / "o.yaml").write_text(text)
    with pytest.raises(ConfigError, match=f"o.yaml:1: {key}: .*write it in quotes: '{name}'"):
        config.load(default, tmp_path / "o.yaml", root=root)


def test_a_whole_number_may_be_written_with_a_point(root, default, tmp_path):
    """To JSON Schema 3.0 is an integer; range(3.0) is a fault."""
    text = (
        "recipe: {candidates: 3.0, epochs: 2.0}\ntracks: {toolcall: {sources: [{embedded: toolcall, rows: 1.0e+2}]}}\n"
    )
    (tmp_path / "o.yaml").write_text(f"{text}contenders: {{few: {{shots: 4.0}}}}\nadapters: {{sft: {{rank: 8.0}}}}\n")
    loaded = config.load(default, tmp_path / "o.yaml", root=root)
    whole = (
        loaded["recipe"]["candidates"],
        loaded["tracks"]["toolcall"]["sources"][0]["rows"],
        loaded["contenders"]["few"]["shots"],
        loaded["adapters"]["sft"]["rank"],
    )
    assert (whole, {type(number) for number in whole}) == ((3, 100, 4, 8), {int})
    assert isinstance(loaded["recipe"]["epochs"], float), "any number will do there"
    (tmp_path / "o.yaml").write_text("recipe: {candidates: 2.5}")
    with pytest.raises(ConfigError, match=r"o.yaml:1: recipe.candidates"):
        config.load(default, tmp_path / "o.yaml", root=root)


def test_the_default_named_last_goes_over_the_others(root, tmp_path, monkeypatch):
    """As with snakemake --configfile: later files over earlier ones, whichever they are."""
    monkeypatch.chdir(root)
    mine, default = tmp_path / "mine.yaml", options.DEFAULT
    mine.write_text("decision: {margin: 0.11}")

    def margin(*files):
        return options.configured(Namespace(config=list(files)))["decision"]["margin"]

    assert (margin(mine), margin(default, mine)) == (0.11, 0.11)
    assert margin(mine, default) == margin() != 0.11


def test_a_file_that_names_all_contenders_gives_their_order(root, default, tmp_path):
    (tmp_path / "more.yaml").write_text("contenders: {guided: {schema_guided: true}}")
    appended = config.load(default, tmp_path / "more.yaml", root=root)["contenders"]
    assert list(appended) == ["slm", "tuned", "guided"]
    whole = config.load(default, root / "config/ladder.yaml", root=root)["contenders"]
    assert list(whole) == ["slm", "guided", "fewshot", "fewshot_guided", "tuned", "tuned_guided"]
    assert list(config.load(default, root / "config/phi4-mini.yaml", root=root)["contenders"]) == list(whole)


CONFIGURATIONS = Path(__file__).parents[2] / "config"
TRAINING = [
    path for path in CONFIGURATIONS.rglob("*.yaml") if "\nrecipe:" in path.read_text() and path.name != "config.yaml"
]


def test_configurations_that_train_are_found():
    assert {"phi4-mini", "azure-four-gpus", "one-24gb-gpu", "openai-vllm"} <= {path.stem for path in TRAINING}


@pytest.mark.parametrize("file", TRAINING, ids=lambda path: path.stem)
def test_a_configuration_for_a_real_model_says_what_each_track_is_trained_with(root, default, file):
    """Nothing of the embedded default's own tuning gets into a training of Phi-4-mini."""
    shipped = config.load(default, file, root=root)
    for track in shipped["tracks"]:
        recipe = contenders.recipe(shipped, "sft", track)
        assert (recipe["epochs"], recipe["learning_rate"], recipe["global_batch"], recipe["rank"]) == (1, 2e-4, 32, 64)


def test_a_missing_file_is_named(root, tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        config.load("no.yaml", root=root)
    with pytest.raises(ConfigError, match=f"{tmp_path}: this is a folder"):
        config.load(tmp_path, root=root)


def test_slm_model_path_is_the_model_named_slm(root, tmp_path, monkeypatch):
    """Whatever source is configured, and no other model."""
    more = tmp_path / "more.yaml"
    more.write_text("models: {slm: {source: hub, repo_id: a/b, revision: " + "0" * 40 + "}, other: {source: embedded}}")
    monkeypatch.setenv("SLM_MODEL_PATH", str(tmp_path))
    given = config.load(root / "config/config.yaml", more, root=root)
    assert given["models"] == {"slm": {"source": "path", "path": str(tmp_path)}, "other": {"source": "embedded"}}


def test_three_lines_are_a_track(root, tmp_path):
    """A name, a kind and sources; everything else has a default that a reader can see."""
    (tmp_path / "rows.jsonl").write_text("{}")
    more = tmp_path / "more.yaml"
    more.write_text(f"tracks:\n  mail:\n    kind: structured\n    sources: [{{path: {tmp_path}/rows.jsonl}}]\n")
    track = config.load(root / "config/config.yaml", more, root=root)["tracks"]["mail"]
    assert (track["finetune"], sum(track["splits"].values())) == ("auto", pytest.approx(1))
    assert track["max_new_tokens"] > 0


@pytest.mark.parametrize(
    "url",
    [
        *(
            "https://me:hush-hush@h/v1",
            "https://hush-hush@h/v1",
            "https://h/v1?key=hush-hush",
            "https://h/v1#hush-hush",
        ),
        "https://h/sk-" + "proj-hush-0123456789abcdefghij/v1",
    ],
)
def test_an_address_with_credentials_is_refused_unseen(root, default, tmp_path, url):
    """Jobs, logs and Snakemake's metadata repeat the configuration."""
    (tmp_path / "o.yaml").write_text(f"teacher:\n  base_url: {url}\n")
    with pytest.raises(ConfigError, match=r"o.yaml:2: teacher.base_url: .* in an address") as caught:
        config.load(default, tmp_path / "o.yaml", root=root)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["teacher: {max_tokens: KEY}", "teacher: KEY", "teacher: {provider: KEY}", "publish: {repo_id: KEY}"]
)
def test_a_key_that_was_put_into_a_wrong_place_is_not_repeated(root, default, tmp_path, text):
    (tmp_path / "o.yaml").write_text(text.replace("KEY", "sk-" + "proj-hush-0123456789abcdefghij"))
    with pytest.raises(ConfigError, match=r"o.yaml:1: (teacher|publish).*masked") as caught:
        config.load(default, tmp_path / "o.yaml", root=root)
    assert "hush" not in str(caught.value)


def test_headers_name_variables_and_no_values(root, default, tmp_path):
    (tmp_path / "o.yaml").write_text("teacher: {headers: {Ocp-Apim-Subscription-Key: APIM_KEY}}")
    assert config.where(config.load(default, tmp_path / "o.yaml", root=root))["teacher"]["headers"]
    (tmp_path / "o.yaml").write_text("teacher: {headers: {Ocp-Apim-Subscription-Key: hush-hush-0123}}")
    with pytest.raises(ConfigError, match=r"teacher\.headers") as caught:
        config.load(default, tmp_path / "o.yaml", root=root)
    assert "hush" not in str(caught.value)


def test_a_margin_in_points_is_told_as_a_share(root, tmp_path):
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("decision:\n  margin: 10\n")
    with pytest.raises(ConfigError, match=r"overlay.yaml:2: decision.margin: 10 is no share.*mean 0.1 \(10 points\)"):
        config.load(root / "config/config.yaml", overlay, selected=False)


def logged(root: Path, tmp_path: Path, source: str, splits: str = "") -> Path:
    """An overlay with a track of logs."""
    (tmp_path / "log.jsonl").write_text("{}\n")
    (tmp_path / "scores.jsonl").write_text("{}\n")
    overlay = tmp_path / "mine.yaml"
    extra = f"    splits: {splits}\n" if splits else ""
    overlay.write_text(
        f"tracks:\n  mine:\n    kind: structured\n    sources:\n      - {{path: {tmp_path}/log.jsonl, {source}}}\n{extra}"
    )
    return overlay


def test_a_date_is_a_date_however_it_is_written(root, tmp_path):
    where = "format: traces, where: {since: 2026-10-01, until: '2026-11-01T12:00:00'}"
    overlay = logged(root, tmp_path, where, "{test_from: 2026-10-20}")
    track = config.load(root / "config/config.yaml", overlay)["tracks"]["mine"]
    assert track["sources"][0]["where"] == {"since": "2026-10-01", "until": "2026-11-01T12:00:00"}
    assert track["splits"] == {"train": 0.8, "val": 0.2, "test_from": "2026-10-20"}


@pytest.mark.parametrize(
    ("source", "splits", "message"),
    [
        ("where: {name: a}", "", "only a log has a use for this key; set format: traces"),
        ("format: openai, gold: reply", "", "only a log has a use for this key"),
        ("format: traces, where: {nme: a}", "", "unknown key; did you mean 'name'"),
        ("format: traces, where: {since: '2026-13-40'}", "", "is no date"),
        ("format: traces, where: {since: 2026-13-40}", "", "not YAML: month must be in 1..12"),
        ("format: traces, gold: feedback", "", "which score approves a reply"),
        ("format: traces, feedback: {score: a, at_least: 1}", "", "says nothing without gold: feedback"),
        (
            "format: traces, gold: feedback, feedback: {score: a, at_least: 1, path: no.jsonl}",
            "",
            "no such file: no.jsonl",
        ),
        ("redact: ['(']", "", "is no regular expression"),
        ("format: traces", "{test_from: soon}", "soon"),
        ("format: traces", "{test_from: 2026-10-01, test: 0.5}", "leave `test` out"),
        ("format: traces", "{test_from: 2026-10-01, train: 0.5}", "val is missing"),
        ("format: traces", "{test_from: 2026-10-01, train: 0.5, val: 0.2}", "add up to 0.7"),
        ("format: traces", "{train: 0.5, val: 0.5}", "test is missing"),
    ],
)
def test_keys_of_logs_that_do_not_fit_are_refused_with_their_place(root, tmp_path, source, splits, message):
    overlay = logged(root, tmp_path, source, splits)
    with pytest.raises(ConfigError) as refused:
        config.load(root / "config/config.yaml", overlay)
    assert message in str(refused.value)
    assert f"{overlay}:" in str(refused.value)
