"""A change of the configuration is told as key, old value, new value."""

import pytest
from snakemake.persistence import ParamsChange

from fledgling.files import canonical
from snakemake_logger_plugin_fledgling.reasons import in_words

CODE = canonical({"fledgling/stats.py": "0f" * 8, "scripts/compare.py": "1e" * 8})


def reason(old, new, code=(CODE, CODE)):
    """What Snakemake says of a job whose params were `old` and are `new`."""
    before = {repr(text) for text in (canonical(old), code[0])}
    now = {repr(text) for text in (canonical(new), code[1])}
    change = ParamsChange(only_old=before - now, only_new=now - before, files={"x"})
    return f"Params have changed since last execution: {change}"


@pytest.mark.parametrize(
    ("old", "new", "wildcards", "said"),
    [
        ({"decision": {"margin": 0.1}}, {"decision": {"margin": 0.08}}, {}, "decision.margin 0.1 → 0.08"),
        (
            {"track": {"finetune": "auto"}},
            {"track": {"finetune": "never"}},
            {"track": "calls"},
            "tracks.calls.finetune",
        ),
        ({"slm": {"batch_size": 8}}, {"slm": {"batch_size": 4}}, {"track": "a", "contender": "b"}, "batch_size 8 → 4"),
        ({"recipe": {}}, {"recipe": {"rank": 8}}, {}, "recipe.rank not set → 8"),
        ({"a": {"b": True}}, {"a": {"b": 1}}, {}, "a.b true → 1"),
        ({"core": ["x", "y"]}, {"core": ["y", "x"]}, {}, "decision.core.0 x → y; decision.core.1 y → x"),
        ({"core": ["x"]}, {"core": ["x", "y"]}, {}, 'decision.core ["x"] → ["x", "y"]'),
        ({"track": {"title": 'it\'s "so"'}}, {"track": {"title": "a; b now: c"}}, {"track": "t"}, "a; b now: c"),
    ],
)
def test_a_changed_setting_is_key_old_and_new(old, new, wildcards, said):
    told = in_words(reason(old, new), wildcards)
    assert said in told
    assert "exclusive params" not in told
    assert "{" not in told


def test_changed_code_is_named_by_file():
    other = CODE.replace("0f", "0e", 1)
    assert in_words(reason({"a": 1}, {"a": 1}, (CODE, other))) == "the code of fledgling/stats.py"
    both = in_words(reason({"a": 1}, {"a": 2}, (CODE, other)))
    assert both == "a 1 → 2; the code of fledgling/stats.py"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ({"decision": {"margin": 0.05}}, {"decision": {"margin": 0.08}}, "decision.margin 0.05 → 0.08"),
        ({"a": 1}, {"a": 1}, "how far contenders are built has changed"),
    ],
)
def test_digests_are_for_machines(old, new, said):
    """Gate and trials carry a digest of all that they rest on: nobody compares 64 digits by eye."""
    before, now = ({repr(canonical(settings)), repr(key)} for settings, key in ((old, "0f" * 32), (new, "1e" * 32)))
    change = ParamsChange(only_old=before - now, only_new=now - before, files={"x"})
    assert in_words(f"Params have changed since last execution: {change}") == said


def test_many_changes_are_counted():
    told = in_words(reason({f"k{i}": 0 for i in range(9)}, {f"k{i}": 1 for i in range(9)}))
    assert told.count("→") == 6
    assert told.endswith("3 more")


def test_other_reasons_stay():
    text = "Missing output files: a.json; Input files updated by another job: b.json"
    assert in_words(text) == text
    both = in_words(f"Missing output files: a.json; {reason({'a': 1}, {'a': 2})}")
    assert both == "Missing output files: a.json; a 1 → 2"


def test_a_reason_of_an_unknown_shape_is_shown_as_it_is():
    assert in_words("Params have changed since last execution: whatever") == (
        "Params have changed since last execution: whatever"
    )
