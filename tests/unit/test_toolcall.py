"""Reading calls in every dialect, and scoring them."""

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fledgling.records import Example, Prediction
from fledgling.tracks.bfcl import allowed_of
from fledgling.tracks.dialects import lenient_calls
from fledgling.tracks.registry import kind
from fledgling.tracks.toolcall import METRICS, Call, ast_match, native_calls, parse_calls
from tests.allowance import within

KIND = kind("toolcall")
CALL = '{"name": "f", "arguments": {"a": [1, {"b": "]<|/tool_call|>"}]}}'
READ = Call("f", {"a": [1, {"b": "]<|/tool_call|>"}]})
ARGUMENTS = '{"a": [1, {"b": "]<|/tool_call|>"}]}'
TWO = '{"name": "g", "parameters": {}}'
HARMONY = (
    "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>analysis<|message|>more<|end|>"
    "<|start|>assistant<|channel|>commentary<|message|>I look.<|end|><|start|>assistant{}"
)
READ_TWO = Call("g", {})
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": f"The {name} of things.",
            "parameters": {
                "type": "object",
                "properties": {
                    "text": {"type": "string"},
                    "count": {"type": "integer"},
                    "share": {"type": "number"},
                    "on": {"type": "boolean"},
                    "shares": {"type": "array", "items": {"type": "number"}},
                    "counts": {"type": "array", "items": {"type": "integer"}},
                    "box": {"type": "object"},
                    "boxes": {"type": "array", "items": {"type": "object"}},
                    "free": {},
                },
                "required": [],
            },
        },
    }
    for name in ("f", "g")
]


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        # Phi-4-mini and its slips
        (f"<|tool_call|>[{CALL}]<|/tool_call|>", [READ]),
        (f"<|tool_call|>[{CALL}, {TWO}]<|/tool_call|><|end|>", [READ, READ_TWO]),
        (f"<|tool_call|>[{CALL}]", [READ]),
        (f"<|tool_call|>[{CALL}]<|end|><|endoftext|>\n", [READ]),
        (f"<|tool_call|>{CALL}, {TWO}<|/tool_call|>", [READ, READ_TWO]),
        (f"<|tool_call|>{CALL},{TWO}", [READ, READ_TWO]),
        (f"<|tool_call|>\n{CALL}\n<|/tool_call|>", [READ]),
        (f"<|tool_call|>{CALL}<|/tool_call|><|tool_call|>{TWO}<|/tool_call|>", [READ, READ_TWO]),
        (f"<|tool_call|>{CALL}<|/tool_call|>, <|tool_call|>{TWO}", [READ, READ_TWO]),
        (f"I will look.\n<|tool_call|>[{CALL}]<|/tool_call|> Done.", [READ]),
        (f"[{CALL}]", [READ]),
        (f"{CALL}, {TWO}", [READ, READ_TWO]),
        # functools
        (f"functools[{CALL}]", [READ]),
        (f" functools[{CALL},{TWO}]<|end|>", [READ, READ_TWO]),
        # Hermes and Qwen
        (f"<tool_call>\n{CALL}\n</tool_call>", [READ]),
        (f"<tool_call>\n{CALL}\n</tool_call>\n<tool_call>\n{TWO}\n</tool_call><|im_end|>", [READ, READ_TWO]),
        (f"<think>\nf? <tool_call> it is\n</think>\n\n<tool_call>{CALL}</tool_call>", [READ]),
        (f"<tool_call>{CALL}", [READ]),
        # Llama-3
        ('{"name": "f", "parameters": {"a": 1}}', [Call("f", {"a": 1})]),
        ('{"type": "function", "name": "f", "parameters": {"a": 1}}<|eot_id|>', [Call("f", {"a": 1})]),
        (f"<|python_tag|>{CALL}<|eom_id|>", [READ]),
        (f"<|python_tag|>{CALL}; {TWO}", [READ, READ_TWO]),
        (f"{CALL}; {TWO}", [READ, READ_TWO]),
        # Mistral
        (f"[TOOL_CALLS] [{CALL}]", [READ]),
        (f"[TOOL_CALLS][{CALL}, {TWO}]</s>", [READ, READ_TWO]),
        ('[TOOL_CALLS] [{"name": "f", "arguments": {}, "id": "abc123def"}]', [Call("f", {})]),
        ('[TOOL_CALLS]f{"a": 1}[TOOL_CALLS]g[ARGS]{}', [Call("f", {"a": 1}), Call("g", {})]),
        ('[TOOL_CALLS] f [ARGS] {"a": 1}</s>', [Call("f", {"a": 1})]),
        ('[TOOL_CALLS]3d.f-x[CALL_ID]abc123def[ARGS]{"s": "[TOOL_CALLS]"}', [Call("3d.f-x", {"s": "[TOOL_CALLS]"})]),
        # functools and Mistral's list close themselves
        (f"Let me check.\nfunctools[{CALL}]\nAnything else?", [READ]),
        (f"functools[{CALL}], and that is all", [READ]),
        (f"[TOOL_CALLS] [{CALL}] I hope this helps", [READ]),
        ('[TOOL_CALLS]f{"a": 1} so', [Call("f", {"a": 1})]),
        ('[TOOL_CALLS]f{"a": 1}g{}', [Call("f", {"a": 1}), Call("g", {})]),
        ('[TOOL_CALLS]f[ARGS]{"a": 1}g[ARGS]{}</s>', [Call("f", {"a": 1}), Call("g", {})]),
        # the plural that models write
        (f"<|tool_calls|>[{CALL}, {TWO}]<|/tool_calls|> done", [READ, READ_TWO]),
        (f"<tool_calls>\n[{CALL}]\n</tool_calls>", [READ]),
        # Glaive
        (f"<functioncall> {CALL} <|endoftext|>", [READ]),
        ('<functioncall> {"name": "f", "arguments": \'{"a": 1}\'} <|endoftext|>', [Call("f", {"a": 1})]),
        # Llama 3.1
        ('<function=f>{"a": 1}</function>', [Call("f", {"a": 1})]),
        ('<function=f>{"a": 1}</function>\n<function=g>{}</function><|eom_id|>', [Call("f", {"a": 1}), Call("g", {})]),
        # DeepSeek V3 and R1, then V3.1
        (
            '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{"a": 1}\n```'
            "<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>g\n```json\n{}\n```<｜tool▁call▁end｜>"
            "<｜tool▁calls▁end｜><｜end▁of▁sentence｜>",
            [Call("f", {"a": 1}), Call("g", {})],
        ),
        (
            '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{"a": 1}<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
            [Call("f", {"a": 1})],
        ),
        # harmony, with its thoughts
        (
            "<|channel|>analysis<|message|>to=functions.g<|message|>{}<|end|><|start|>assistant<|channel|>commentary"
            ' to=functions.f <|constrain|>json<|message|>{"a": 1}<|call|>',
            [Call("f", {"a": 1})],
        ),
        ('<|start|>assistant to=functions.f<|channel|>commentary json<|message|>{"a": 1}', [Call("f", {"a": 1})]),
        # thoughts that the prompt has opened, and thoughts in other tags
        (f"perhaps <tool_call>{TWO}</tool_call>? no\n</think>\n<tool_call>{CALL}</tool_call>", [READ]),
        (f"[THINK]{TWO}[/THINK]{CALL}", [READ]),
        (f"<|channel>thought\n{TWO}<channel|>{CALL}<turn|>", [READ]),
        (f"<think>{TWO}</think><response>\n{CALL}\n</response>", [READ]),
        (f"<think>{TWO}</think>\n<think>or</think>\n\n{CALL}", [READ]),
        (HARMONY.format(f"<|channel|>final<|message|>{CALL}<|return|>"), [READ]),
        (HARMONY.format(f"<|channel|>commentary to=functions.f<|message|>{ARGUMENTS}<|call|>"), [READ]),
        (f"<tool_call>{CALL}</tool_call>[|endofturn|]", [READ]),
        ('{"name": "f", "arguments": {"s": "</think>"}}', [Call("f", {"s": "</think>"})]),
        ('So: <tool_call>{"name": "f", "arguments": {"s": "</think>"}}</tool_call>', [Call("f", {"s": "</think>"})]),
        # the historical wrapper: its body is the arguments
        ('<tool_call name="f">{"a": 1}</tool_call>', [Call("f", {"a": 1})]),
        ('<tool_call name="f">{"name": "g", "arguments": {}}</tool_call>', [Call("f", {"name": "g", "arguments": {}})]),
        (
            '<tool_call name="f">{}</tool_call>\n<tool_call name="g">{"b": null}</tool_call>',
            [Call("f", {}), Call("g", {"b": None})],
        ),
        # no calls, said in JSON
        ("[]", []),
        ("<|tool_call|>[]<|/tool_call|>", []),
        # arguments that look like other things
        (
            '{"name": "f", "arguments": {"type": "object", "properties": {}}}',
            [Call("f", {"type": "object", "properties": {}})],
        ),
        (
            '{"name": "f", "arguments": {"s": "<tool_call>{}</tool_call>"}}',
            [Call("f", {"s": "<tool_call>{}</tool_call>"})],
        ),
        ('{"name": "f", "parameters": {}}', [Call("f", {})]),
        (
            '{"name": "f", "parameters": {"shape": {"type": "circle", "radius": 5}}}',
            [Call("f", {"shape": {"type": "circle", "radius": 5}})],
        ),
        (
            '{"name": "f", "parameters": {"a": {"type": "listing", "title": "x"}}}',
            [Call("f", {"a": {"type": "listing", "title": "x"}})],
        ),
        (
            '{"name": "f", "parameters": {"type": "object", "name": "sphere"}}',
            [Call("f", {"type": "object", "name": "sphere"})],
        ),
        ('{"name": "f", "description": "Does.", "parameters": {"a": 1}}', [Call("f", {"a": 1})]),
        (
            '{"name": "f", "description": "Does.", "arguments": {"a": {"type": "string"}}}',
            [Call("f", {"a": {"type": "string"}})],
        ),
    ],
)
def test_reads_every_dialect(text, calls):
    assert parse_calls(text) == calls


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I cannot help with that.",
        "null",
        "5",
        '"f"',
        "{}",
        "[1]",
        "[[]]",
        f"[[{CALL}]]",
        "[TOOL_CALLS]",
        "<tool_call>",
        "functools[",
        "<tool_call></tool_call>",
        '<tool_call name="f"></tool_call>',
        '<tool_call name="f">[1]</tool_call>',
        '<tool_call name="">{}</tool_call>',
        # an echoed definition
        '{"name": "f", "description": "Does.", "parameters": {"a": {"type": "string"}}}',
        '{"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "string"}}}}',
        '<|tool_call|>[{"name": "f", "parameters": {"a": {"description": "A.", "type": "str", "default": "x"}}}]<|/tool_call|>',
        '{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}',
        '{"name": "f", "description": "Does.", "parameters": {}}',
        '{"name": "f", "parameters": {"type": "dict", "properties": {"a": {"type": "string"}}}}',
        '{"name": "f", "parameters": {"properties": {"a": {"type": "string"}}, "required": ["a"]}}',
        '{"name": "f", "parameters": {"type": "object"}}',
        '{"name": "f", "parameters": {"a": {"type": "List[str]"}, "b": {"type": ["string", "null"], "description": "B."}}}',
        '{"name": "f", "description": "Does.", "parameters": {"a": {"type": "date", "x-hint": 1}}}',
        # not a call
        '{"name": "f"}',
        '{"arguments": {}}',
        '{"name": 1, "arguments": {}}',
        '{"name": "", "arguments": {}}',
        '{"name": "f", "arguments": null}',
        '{"name": "f", "arguments": [1]}',
        '{"name": "f", "arguments": {}, "parameters": {}}',
        '{"function": "f", "arguments": {}}',
        '{"name": "f", "arguments": "{\\"a\\": 1}"}',
        '{"name": "f", "args": {}}',
        f"[{CALL}, 5]",
        f"<tool_call>{CALL}</tool_call><tool_call>oops</tool_call>",
        # not JSON
        "{'name': 'f', 'arguments': {}}",
        '{"name": "f", "arguments": {"a": NaN}}',
        '{"name": "f", "arguments": {"a": 1, "a": 1}}',
        '{"name": "f", "arguments": {"a": True}}',
        '{"name": "f", "arguments": {},}',
        CALL[:-1],
        f"[{CALL}",
        f"<|tool_call|>[{CALL}<|/tool_call|>",
        "[f(a=1)]",
        "f(a=1)",
        "<function=f>{}</function> <function=g>oops</function>",
        "<function=f>{} so</function>",
        '<functioncall> {"name": "f", "arguments": \'{"a": 1}"}',
        "<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n[1]\n```<｜tool▁call▁end｜>",
        f"hm, it is {CALL}</thi nk>",
        # text where only the calls may stand
        f"Sure: {CALL}",
        f"{CALL} there",
        f"```json\n{CALL}\n```",
        f"<tool_call>```{CALL}```</tool_call>",
        f"<tool_call>{CALL} so</tool_call>",
        f"<|tool_call|>[{CALL}] I hope this helps",
        f"functools[{CALL}, 5] done",
        f"{CALL} {TWO}",
        f"{CALL},",
        f"[{CALL}]; ;",
        f"<tool_call>{CALL};{TWO}</tool_call>",
        f"<think>no end {CALL}",
        f"<think>hm</think><think>no end {CALL}",
        "<tool_call name='f'>{}</tool_call>",
        "\ufeff" + CALL,
        '{"name": "f", "arguments": {"a": "\ud800"}}',
    ],
)
def test_refuses_what_is_no_valid_call(text):
    assert parse_calls(text) is None


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        (f"```json\n[{CALL}]\n```", [READ]),
        (f"Sure: {CALL} and {TWO}!", [READ, READ_TWO]),
        ('{"function": {"name": "f", "arguments": "{\\"a\\": 1}"}}', [Call("f", {"a": 1})]),
        ('{"tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {}}}]}', [Call("f", {})]),
        ('{"tool": "f", "args": {"a": 1}}', [Call("f", {"a": 1})]),
        (f"<tool_call>{CALL}</tool_call><tool_call>oops</tool_call>", [READ]),
        (f"<tool_call>```{CALL}```</tool_call>", [READ]),
        ('{"name": "f", "description": "Does.", "parameters": {}}', []),
        ("{'name': 'f', 'arguments': {}}", []),
        ("no call", []),
    ],
)
def test_the_lenient_reading(text, calls):
    assert lenient_calls(text) == calls


@pytest.mark.parametrize(
    ("arguments", "read"),
    [
        ('{"a": 1}', {"a": 1}),
        ({"a": 1}, {"a": 1}),
        ("{}", {}),
        ("", {}),
        (" \n", {}),
        ("null", {}),
        ("{'a': 1}", None),
        ("[]", None),
        ('{"a": 1} ;', None),
        (None, {}),
    ],
)
def test_native_calls(arguments, read):
    calls = native_calls([{"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}])
    assert calls == (None if read is None else [Call("f", read)])


@pytest.mark.parametrize("broken", [None, "f", {}, {"function": None}, {"function": {"arguments": "{}"}}, []])
def test_broken_native_calls_are_invalid(broken):
    assert native_calls([broken]) is None


# BFCL's semantics


def test_agrees_with_bfcls_own_checker(shared_data):
    rows = {row["id"]: row for row in map(json.loads, (shared_data / "bfcl" / "shared.jsonl").open())}
    wrong, seen = [], 0
    for verdict in map(json.loads, (shared_data / "bfcl" / "checker_verdicts_shared.jsonl").open()):
        row = rows[verdict["row_id"]]
        calls = [Call(**call) for call in verdict["prediction"]]
        seen += 1
        if ast_match(calls, row["answers"], row["tools"]) != verdict["verdict"] and not verdict.get("disputed"):
            wrong.append(verdict["case"])
    assert not wrong
    assert seen > 200


@pytest.mark.parametrize("name", ["bfcl/shared", "toolcall/sgd_test", "toolcall/seal_test"])
def test_gold_is_right(shared_data, name):
    for row in map(json.loads, (shared_data / f"{name}.jsonl").open()):
        if row["answers"] is not None:
            calls = [Call(**call) for call in row["gold"]]
            for allowed in (row["answers"], allowed_of(row["gold"])):
                assert ast_match(calls, allowed, row["tools"]), row["id"]


@pytest.mark.parametrize(
    ("name", "value", "options", "right"),
    [
        ("text", "A-b, c.", ["abc"], True),
        ("text", 'it"s', ["it's"], True),
        ("text", "a:b", ["ab"], False),
        ("text", "ab\n", ["ab"], False),
        ("text", 1, ["1"], False),
        ("text", ["a"], ["a"], False),
        ("text", None, ["a"], False),
        ("text", "", ["", "a"], True),
        ("text", None, [None, ""], True),
        ("text", "none", [None, ""], False),
        ("text", "ab", [None, "A.b"], False),
        ("text", "A.b", [None, "A.b"], True),
        ("text", ["A"], [["A"]], True),
        ("text", ["a"], [["A"]], False),
        ("count", 1, [1], True),
        ("count", 1.0, [1], False),
        ("count", True, [1], False),
        ("count", "1", [1], False),
        ("count", "n", ["n"], True),
        ("count", "N", ["n"], False),
        ("count", "", ["", 1], False),
        ("count", 10**30, [10**30], True),
        ("share", 1, [1.0], True),
        ("share", 1.0, [1], True),
        ("share", True, [1.0], False),
        ("share", 0.1, [0.1], True),
        ("share", 0.1, [0.2], False),
        ("on", True, [True], True),
        ("on", 1, [True], False),
        ("on", "true", [True], False),
        ("on", False, ["", True], False),
        ("shares", [1.0, 2.0], [[1.0, 2.0]], True),
        ("shares", [1, 2], [[1.0, 2.0]], True),
        ("shares", [2.0, 1.0], [[1.0, 2.0]], False),
        ("counts", [1], [[1]], True),
        ("counts", [1.0], [[1]], False),
        ("counts", [True], [[1]], False),
        ("counts", ["1"], [[1]], False),
        ("counts", [], [[1], ""], True),
        ("counts", [], [[1]], False),
        ("counts", [[1]], [[1]], False),
        ("counts", 1, [[1]], False),
        ("box", {"a": "X y"}, [{"a": ["xy"]}], True),
        ("box", {"a": 1.0}, [{"a": [1]}], True),
        ("box", {"a": True}, [{"a": [1]}], False),
        ("box", {}, [{"a": [1, ""]}], True),
        ("box", {}, [{"a": [1]}], False),
        ("box", {"a": 1, "b": 2}, [{"a": [1]}], False),
        ("box", {"a": {"b": 1}}, [{"a": [{"b": [1]}]}], True),
        ("box", {"a": {"b": 2}}, [{"a": [{"b": [1]}]}], False),
        ("box", {"a": ["X"]}, [{"a": [["X"]]}], True),
        ("box", {"a": ["x"]}, [{"a": [["X"]]}], False),
        ("box", "{}", [{"a": [1, ""]}], False),
        ("boxes", [{"a": "X"}, {"a": 2}], [[{"a": ["x"]}, {"a": [2]}]], True),
        ("boxes", [{"a": 2}, {"a": "X"}], [[{"a": ["x"]}, {"a": [2]}]], False),
        ("boxes", [{"a": 1}], [[{"a": [1]}, {"a": [1]}]], False),
        ("boxes", [], [[{"a": [1]}], ""], True),
        ("free", "A b", ["ab"], True),
        ("free", 1, ["1"], False),
        ("free", [1], [[1]], True),
        ("free", None, [None], True),
    ],
)
def test_ast_values(name, value, options, right):
    allowed = [{"name": "f", "arguments": {name: options}}]
    assert ast_match([Call("f", {name: value})], allowed, TOOLS) is right


def test_ast_arguments_and_names():
    allowed = [{"name": "f", "arguments": {"text": ["a"], "count": ["", 1]}}]
    assert ast_match([Call("f", {"text": "a"})], allowed, TOOLS)
    assert ast_match([Call("f", {"text": "a", "count": 1})], allowed, TOOLS)
    assert not ast_match([Call("f", {"text": "a", "count": 2})], allowed, TOOLS)
    assert not ast_match([Call("f", {"count": 1})], allowed, TOOLS)
    assert not ast_match([Call("f", {"text": "a", "share": 1.0})], allowed, TOOLS)
    assert not ast_match(
        [Call("f", {"text": "a", "zz": 1})], [{"name": "f", "arguments": {"text": ["a"], "zz": [1]}}], TOOLS
    )
    assert not ast_match([Call("F", {"text": "a"})], allowed, TOOLS)
    assert not ast_match([Call("f", {"text": "a"})] * 2, allowed, TOOLS)
    assert not ast_match([], allowed, TOOLS)
    assert not ast_match(None, allowed, TOOLS)
    required = json.loads(json.dumps(TOOLS))
    required[0]["function"]["parameters"]["required"] = ["count"]
    assert not ast_match([Call("f", {"text": "a"})], allowed, required)
    assert ast_match([Call("f", {"text": "a"})], allowed, None)


def test_ast_no_call_and_any_call():
    assert ast_match([], [], TOOLS)
    assert ast_match(None, [], TOOLS)
    assert not ast_match([Call("f", {})], [], TOOLS)
    assert ast_match([Call("anything", {})], None, TOOLS)
    assert not ast_match([], None, TOOLS)
    assert not ast_match(None, None, TOOLS)


def test_parallel_calls_are_assigned_not_matched_greedily():
    """The first expected call takes either; greedy matching gives it the one that the second needs."""
    allowed = [{"name": "f", "arguments": {"text": ["a", "b"]}}, {"name": "f", "arguments": {"text": ["a"]}}]
    calls = [Call("f", {"text": "a"}), Call("f", {"text": "b"})]
    for order in itertools.permutations(calls):
        assert ast_match(list(order), allowed, TOOLS)
    assert not ast_match([calls[1], calls[1]], allowed, TOOLS)


# Scores


def example(answer, allowed=None):
    return Example("1", "1", [{"role": "user", "content": "x"}], answer, tools=TOOLS, allowed=allowed)


def score(raw, answer, allowed=None, tool_calls=None, outcome="ok"):
    return KIND.score(example(answer, allowed), Prediction("1", outcome, raw=raw, tool_calls=tool_calls))


def values(scored):
    return tuple(round(scored.scores[name], 4) for name in METRICS)


F = {"name": "f", "arguments": {"text": "a", "count": 2}}
G = {"name": "g", "arguments": {}}


@pytest.mark.parametrize(
    ("calls", "answer", "expected", "reason"),
    [  # valid, name, exact, precision, recall, f1, ast, abstain
        ([F], [F], (1, 1, 1, 1, 1, 1, 1, 0), None),
        ([{"name": "f", "arguments": {"text": "A.", "count": 2}}], [F], (1, 1, 0, 0.5, 0.5, 0.5, 1, 0), None),
        ([{"name": "f", "arguments": {"text": "a", "count": 2.0}}], [F], (1, 1, 1, 1, 1, 1, 0, 0), "wrong_arguments"),
        ([{"name": "f", "arguments": {"text": "a"}}], [F], (1, 1, 0, 1, 0.5, 0.6667, 0, 0), "wrong_arguments"),
        (
            [{"name": "f", "arguments": {"text": "a", "count": 2, "on": True}}],
            [F],
            (1, 1, 0, 0.6667, 1, 0.8, 0, 0),
            "wrong_arguments",
        ),
        ([{"name": "f", "arguments": {}}], [F], (1, 1, 0, 0, 0, 0, 0, 0), "wrong_arguments"),
        ([{"name": "g", "arguments": F["arguments"]}], [F], (1, 0, 0, 0, 0, 0, 0, 0), "wrong_name"),
        ([F, G], [F], (1, 0, 0, 1, 1, 1, 0, 0), "extra_call"),
        ([F], [F, G], (1, 0, 0, 1, 1, 1, 0, 0), "missing_call"),
        ([G, F], [F, G], (1, 1, 1, 1, 1, 1, 1, 0), None),
        ([F, F], [F, G], (1, 0, 0, 0.5, 1, 0.6667, 0, 0), "wrong_name"),
        ([G], [G], (1, 1, 1, 1, 1, 1, 1, 0), None),
        ([F], [G], (1, 0, 0, 0, 0, 0, 0, 0), "wrong_name"),
        ([G], [F], (1, 0, 0, 0, 0, 0, 0, 0), "wrong_name"),
        ([], [F], (0, 0, 0, 0, 0, 0, 0, 1), "no_call"),
        ([], [], (1, 1, 1, 1, 1, 1, 1, 1), None),
        ([G], [], (1, 0, 0, 0, 0, 0, 0, 0), "unneeded_call"),
        ([G], None, (1, 1, 1, 1, 1, 1, 1, 0), None),
        ([], None, (0, 0, 0, 0, 0, 0, 0, 1), "no_call"),
    ],
)
def test_scores(calls, answer, expected, reason):
    scored = score(json.dumps(calls), answer)
    assert values(scored) == expected
    assert scored.reason == reason
    assert scored.lenient == scored.scores
    assert scored.parsed == calls
    native = [
        {"type": "function", "function": {"name": c["name"], "arguments": json.dumps(c["arguments"])}} for c in calls
    ]
    if native:
        assert score(None, answer, tool_calls=native) == scored


@pytest.mark.parametrize(
    ("text", "abstains"),
    [
        ("There is no tool for that.", True),
        ("[]", True),
        ("The [first] tool {does} not fit.", True),
        ("[Note] I cannot do this.", True),
        ("<tool_call>oops", False),
        ('{"answer": 5}', True),
        ("```python\nprint('a poem')\n```", True),
        (f"<think>{CALL}</think>There is no tool for that.", True),
        ("<think>no end of this", False),
        ("<think>nothing after</think>", False),
        (CALL[:-1], False),
        (f"Sure: {CALL}", False),
        ("```\nf()\n```", False),
        ("[f(a=1)]", False),
        ("", False),
        ("  \n", False),
    ],
)
def test_what_an_abstention_is(text, abstains):
    right, wrong = score(text, []), score(text, [F])
    assert values(right) == ((1,) * 8 if abstains else (0,) * 8)
    assert values(wrong) == (0,) * 7 + ((1,) if abstains else (0,))
    assert wrong.reason == ("no_call" if abstains else "invalid_call" if text.strip() else "empty")


@pytest.mark.parametrize("outcome", ["empty", "length", "content_filter", "refusal", "error"])
def test_only_an_ok_reply_can_be_right(outcome):
    for raw, answer in (("[]", []), ("no", []), (json.dumps([F]), [F]), (json.dumps([F]), None)):
        scored = score(raw, answer, outcome=outcome)
        assert values(scored) == (0,) * 8
        assert scored.reason == f"outcome:{outcome}"


def test_the_lenient_reading_stands_beside_the_strict_one():
    scored = score(f"```json\n{json.dumps([F])}\n```", [F])
    assert values(scored) == (0,) * 8
    assert scored.lenient["ast_match_rate"] == scored.lenient["args_f1"] == 1
    assert scored.parsed is None


def test_allowed_values_count_as_equal():
    allowed = [{"name": "f", "arguments": {"text": ["a", "b"], "count": ["", 2], "box": [{"x": [1, ""], "y": [[1]]}]}}]
    full = {"text": "b", "count": 2, "box": {"x": 1, "y": [1]}}
    for arguments in (full, {**full, "box": {"y": [1.0]}}, {"text": "a", "box": {"y": [1]}}):
        assert values(score(json.dumps([{"name": "f", "arguments": arguments}]), [F], allowed)) == (1,) * 7 + (0,)
    wrong = score(json.dumps([{"name": "f", "arguments": {"text": "a", "count": 3, "box": {"y": [1]}}}]), [F], allowed)
    assert values(wrong)[2:6] == (0, 0.6667, 0.6667, 0.6667)


def test_arguments_are_assigned_so_that_most_are_right():
    gold = [
        {"name": "f", "arguments": {"text": "a", "count": 1}},
        {"name": "f", "arguments": {"text": "a", "count": 2}},
    ]
    calls = [
        {"name": "f", "arguments": {"text": "a", "count": 2}},
        {"name": "f", "arguments": {"text": "x", "count": 1}},
    ]
    assert values(score(json.dumps(calls), gold)) == (1, 1, 0, 0.75, 0.75, 0.75, 0, 0)


def test_an_echoed_definition_is_no_call(shared_data):
    for name in ("bfcl/shared", "toolcall/seal_test", "toolcall/sgd_test"):
        for row in map(json.loads, (shared_data / f"{name}.jsonl").open()):
            for tool in row["tools"]:
                echo = {key: tool["function"][key] for key in ("name", "parameters")}
                assert parse_calls(json.dumps(echo)) is None
            for call in row["gold"] or []:
                assert parse_calls(json.dumps({"name": call["name"], "parameters": call["arguments"]})) == [
                    Call(**call)
                ]


def test_slices():
    assert KIND.slices(example([F, G])) == {"tool": "f+g", "calls": "2+", "category": "none", "length": "short"}
    assert KIND.slices(example([]))["tool"] == "none"
    assert KIND.slices(example(None)) | {"length": ""} == {
        "tool": "any",
        "calls": "any",
        "category": "none",
        "length": "",
    }


VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(min_size=1),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
CALLS = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.sampled_from(["f", "h", "i"]),
            "arguments": st.dictionaries(st.sampled_from("abc"), VALUE, max_size=3),
        }
    ),
    max_size=4,
)


@given(CALLS, st.randoms())
@settings(deadline=None)
def test_gold_in_any_order_scores_one(calls, rng):
    shuffled = rng.sample(calls, len(calls))
    scored = KIND.score(Example("1", "1", [], calls), Prediction("1", "ok", raw=json.dumps(shuffled)))
    assert values(scored) == (1,) * 7 + (float(not calls),)


@given(CALLS, CALLS)
@settings(deadline=None)
def test_f1_is_symmetric(a, b):
    ab = KIND.score(Example("1", "1", [], b), Prediction("1", "ok", raw=json.dumps(a))).scores
    ba = KIND.score(Example("1", "1", [], a), Prediction("1", "ok", raw=json.dumps(b))).scores
    assert ab["args_f1"] == pytest.approx(ba["args_f1"])
    if a and b:
        assert ab["args_precision"] == pytest.approx(ba["args_recall"])
        assert ab["args_exact_rate"] == ba["args_exact_rate"]
        assert ab["name_match_rate"] == ba["name_match_rate"]


SCRAPS = st.sampled_from(
    [
        "<|tool_call|>",
        "<|/tool_call|>",
        "<tool_call>",
        "</tool_call>",
        '<tool_call name="f">',
        "functools",
        "[TOOL_CALLS]",
        "<|python_tag|>",
        "<think>",
        "</think>",
        "<|end|>",
        "[",
        "]",
        "{",
        "}",
        ",",
        ";",
        " ",
        "\n",
        CALL,
        TWO,
        '{"name":"f","arguments":{"a":',
        '"',
        "\\",
        "NaN",
        "1e999",
        "```json",
        "\ud800",
        "\x00",
        "f",
    ]
)


@given(st.lists(SCRAPS, max_size=12).map("".join) | st.text())
@settings(max_examples=400, deadline=None)
def test_any_text_is_scored(text):
    for prediction in (
        Prediction("1", "ok", raw=text),
        Prediction("1", "ok", tool_calls=[{"function": {"name": "f", "arguments": text}}]),
    ):
        scored = KIND.score(example([F, G]), prediction)
        assert all(0 <= value <= 1 for value in (*scored.scores.values(), *scored.lenient.values()))
        assert (scored.scores["ast_match_rate"] == 1) == (scored.reason is None)


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_any_bytes_are_scored(raw):
    for text in (raw.decode("latin-1"), raw.decode("utf-8", "surrogateescape"), raw.decode("utf-8", "replace")):
        for track, answer in ((KIND, [F]), (kind("structured"), {"a": 1})):
            track.score(Example("1", "1", [], answer), Prediction("1", "ok", raw=text))


MEGA = 1 << 20
HOSTILE = {
    "open arrays": "[" * 100_000,
    "closed arrays": "[" * 100_000 + "]" * 100_000,
    "open objects": '{"a":' * 100_000,
    "a long integer": '{"a":' + "9" * 5000 + "}",
    "long integers": '{"a":[' + ",".join(["9" * 9990] * 100) + "]}",
    "lone surrogates": '{"a":"\\ud800\ud800"}',
    "NUL": "\0" * MEGA,
    "50 MB of text": "a" * 50_000_000,
    "50 MB of JSON": '{"a":"' + "a" * 50_000_000 + '"}',
    "white space": " " * MEGA,
    "markers": "<tool_call>" * (MEGA // 11),
    "named markers": '<tool_call name="' * (MEGA // 17),
    "spaced markers": ("<tool_call" + " " * 50) * (MEGA // 60),
    "ends of turn": "<|end|> " * (MEGA // 8),
    "objects in prose": "x" + '{"a":[' * 10_000,
    "arrays in prose": "x" + "[" * 60 + "{}," * 300_000,
    "nested objects in prose": "x" + '{"a":' * 60 + "[" + "1.50," * 200_000,
    "Mistral's name": "[TOOL_CALLS]" + "a" * MEGA,
    "spaced bracket": "[" + " " * MEGA + "x",
    "many calls": ",".join(['{"name":"f","arguments":{"text":"a"}}'] * 28_000),
    "many marked calls": '<tool_call>{"name":"f","arguments":{"text":"a"}}</tool_call>' * 17_000,
    "names of tools": "f, g: " * (MEGA // 6),
    "names of tools in parentheses": "(f (g " * (MEGA // 6),
    "thoughts that close often": "{</think>" * (MEGA // 9),
    "thoughts in arrays": "[[" * 50_000 + "</think>",
    "DeepSeek's markers": "<｜tool▁call▁begin｜>f<｜tool▁sep｜>" * (MEGA // 32),
    "harmony's markers": "to=functions.f " * (MEGA // 16),
    "Glaive's quotes": '<functioncall>{"name": "f", "arguments": \'' * (MEGA // 50),
    "fences": "```json\n" * (MEGA // 8),
    "many arguments": '{"name":"f","arguments":{' + ",".join(f'"k{i}":1' for i in range(80_000)) + "}}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_scored_in_under_a_second(name):
    text = HOSTILE[name]
    score("[]", [F, G, G]), score(json.dumps([G, G, F]), [F, G, G])  # what is imported once is imported now
    schema = {"type": "object", "properties": {"a": {"items": {"multipleOf": 0.01}, "uniqueItems": True}}}
    structured = Example("1", "1", [], {"a": [1]}, schema=schema)
    for track, row, prediction in (
        (KIND, example([F, G, G]), Prediction("1", "ok", raw=text)),
        (KIND, example([F]), Prediction("1", "ok", tool_calls=[{"function": {"name": "f", "arguments": text}}])),
        (kind("structured"), structured, Prediction("1", "ok", raw=text)),
    ):
        with within(1):
            scored = track.score(row, prediction)
        assert scored.reason is not None


@pytest.mark.parametrize(
    ("name", "value", "option"),
    [
        ("text", "É." * 65_000, str),
        ("counts", [1] * 65_000, lambda i: [i, i]),
        ("counts", [""] * 65_000, lambda i: [i]),
        ("box", {"a": "É." * 65_000}, lambda i: {"a": [f"{i}.{j}" for j in range(24)]}),
        ("free", ["É." * 65_000], lambda i: [str(i)]),
    ],
)
def test_long_arguments_are_compared_in_under_a_second(name, value, option):
    """The largest of the shared data: eight parallel calls, 24 allowed values; together the calls fill the longest reply."""
    allowed = [{"name": "f", "arguments": {name: [option(i) for i in range(24)]}} for _ in range(8)]
    calls = [Call("f", {name: json.loads(json.dumps(value))}) for _ in range(8)]
    with within(1):
        assert not ast_match(calls, allowed, TOOLS)


def gold_of(calls, arguments=1, values=1):
    """Parallel gold calls of f whose first argument tells them apart, and their allowed values."""
    gold = [{"name": "f", "arguments": {f"a{j}": (i if j == 0 else 0) for j in range(arguments)}} for i in range(calls)]
    allowed = [
        {
            "name": "f",
            "arguments": {name: [value, *range(1000, 999 + values)] for name, value in c["arguments"].items()},
        }
        for c in gold
    ]
    return gold, allowed


@pytest.mark.parametrize(
    ("calls", "gold", "arguments", "values"),
    [(31_000, 1, 1, 1), (31_000, 200, 1, 1), (31_000, 2_000, 1, 1), (200, 200, 20, 200), (2_000, 2_000, 1, 1)],
)
def test_many_calls_are_scored_in_under_a_second(calls, gold, arguments, values):
    answer, allowed = gold_of(gold, arguments, values)
    row = Example("1", "1", [], answer, allowed=allowed)
    one = {f"a{j}": 1 for j in range(arguments)}
    raw = json.dumps([{"name": "f", "arguments": one}] * calls)[: 1 << 20]
    raw = raw if raw.endswith("]") else raw[: raw.rindex("}, ") + 1] + "]"
    with within(1):
        scored = KIND.score(row, Prediction("1", "ok", raw=raw))
    assert scored.reason == ("extra_call" if calls > gold else "wrong_arguments")
    assert 0 <= scored.scores["args_f1"] < 1


@pytest.mark.parametrize("form", ["raw", "native"])
def test_a_right_reply_with_very_many_calls_is_right_in_any_order(form):
    answer, allowed = gold_of(200, 20, 200)
    calls = answer[::-1]
    native = [{"function": {"name": c["name"], "arguments": json.dumps(c["arguments"])}} for c in calls]
    reply = {"raw": json.dumps(calls)} if form == "raw" else {"tool_calls": native}
    scored = KIND.score(Example("1", "1", [], answer, allowed=allowed), Prediction("1", "ok", **reply))
    assert values(scored) == (1,) * 7 + (0,)


@pytest.mark.parametrize("form", ["calls", "object", "text", "nothing"])
def test_a_million_calls_in_the_providers_form_are_too_long(form):
    call = {"function": {"name": "f", "arguments": "{}"}}
    native = {
        "calls": [call] * 1_000_000,
        "object": [{"function": {"name": "f", "arguments": {"a": [0] * 1_100_000}}}],
        "text": [{"function": {"name": "f", "arguments": '{"a": "' + "x" * (1 << 20) + '"}'}}],
        "nothing": [None] * 5_000,
    }[form]
    with within(1):
        scored = KIND.score(Example("1", "1", [], [F]), Prediction("1", "ok", tool_calls=native))
    assert (scored.reason, scored.parsed) == ("too_long", None)


def test_right_calls_before_very_many_others_are_still_found():
    answer, allowed = gold_of(3, 2)
    calls = [*answer[::-1], *({"name": "a", "arguments": {"x": i}} for i in range(20_000))]
    scored = KIND.score(Example("1", "1", [], answer, allowed=allowed), Prediction("1", "ok", raw=json.dumps(calls)))
    assert scored.reason == "extra_call"
    assert scored.scores["args_recall"] == 1
    assert scored.scores["args_precision"] == 6 / 20_006
