"""Replies on a row where no call is right: those that call in any dialect are wrong, those that do not are right."""

import json

import pytest

from fledgling.records import Example, Prediction
from fledgling.tracks.attempts import attempts_call
from fledgling.tracks.registry import kind

KIND = kind("toolcall")


def tool(name, **properties):
    parameters = {"type": "object", "properties": properties}
    return {"type": "function", "function": {"name": name, "description": f"The {name}.", "parameters": parameters}}


TOOLS = [
    tool("get_weather", city={"type": "string"}),
    tool("refund", order={"type": "integer"}),
    tool("translate", text={"type": "string"}),
]
CALL = '{"name": "get_weather", "arguments": {"city": "Oslo"}}'
ARGUMENTS = '{"city": "Oslo"}'

CALLING = {
    "json": CALL,
    "json, other tool": '{"name": "book_flight", "arguments": {}}',
    "json cut off": CALL[:-4],
    "json with a comma too many": '{"name": "get_weather", "arguments": {"city": "Oslo"},}',
    "json with single quotes": "{'name': 'get_weather', 'arguments': {'city': 'Oslo'}}",
    "json in a fence": f"```json\n{CALL}\n```",
    "json in a broken fence": f"```json\n{CALL[:-2]}\n```",
    "json in prose": f"Let me look: {CALL}",
    "openai's form": '{"tool_calls": [{"type": "function", "function": {"name": "get_weather"}}]}',
    "arguments as text": '{"name": "get_weather", "arguments": "{\\"city\\": \\"Oslo\\"}"}',
    "parameters under other keys": '{"tool": "get_weather", "tool_input": {"city": "Oslo"}}',
    "name as key": '{"get_weather": {"city": "Oslo"}}',
    "phi-4-mini": f"<|tool_call|>[{CALL}]<|/tool_call|>",
    "phi-4-mini, plural": f"<|tool_calls|>[{CALL}]<|/tool_calls|>",
    "phi-4-mini, unclosed text": f"<|tool_call|>[{CALL}] I hope this helps",
    "hermes": f"<tool_call>\n{CALL}\n</tool_call><|im_end|>",
    "hermes, broken": "<tool_call>\n{'name': 'get_weather'}\n</tool_call>",
    "qwen 2": "✿FUNCTION✿: get_weather\n✿ARGS✿: {}",
    "qwen3-coder": "<tool_call>\n<function=get_weather>\n<parameter=city>\nOslo\n</parameter>\n</function>\n</tool_call>",
    "qwen3-coder, bare": "<function=get_weather>\n<parameter=city>\nOslo\n</parameter>\n</function>",
    "llama 3": '{"name": "get_weather", "parameters": {"city": "Oslo"}}<|eot_id|>',
    "llama 3.1": f"<function=get_weather>{ARGUMENTS}</function>",
    "llama 3.1, cut off": '<function=get_weather>{"city": "Os',
    "llama 3, python": '<|python_tag|>get_weather.call(city="Oslo")<|eom_id|>',
    "llama 3.2 and 4": '[get_weather(city="Oslo")]<|eot|>',
    "llama 4, two": '[get_weather(city="Oslo"), refund(order=1)]',
    "pythonic": 'get_weather(city="Oslo")',
    "pythonic, of its own": '[book_flight(to="Oslo")]',
    "pythonic, positional": 'get_weather("Oslo")',
    "pythonic, bare word": "get_weather(Oslo)",
    "pythonic, with a space": 'get_weather (city="Oslo")',
    "pythonic, after text": 'To find out: [get_weather(city="Oslo")]',
    "pythonic, in a fence": '```python\nget_weather(city="Oslo")\n```',
    "pythonic, without arguments": "get_weather()",
    "pythonic, in bold": '**get_weather**(city="Oslo")',
    "javascript": 'await tools.get_weather({ city: "Oslo" })',
    "mistral": f"[TOOL_CALLS] [{CALL}]",
    "mistral, v11": f"[TOOL_CALLS]get_weather[ARGS]{ARGUMENTS}",
    "mistral, marker lost": f"get_weather[ARGS]{ARGUMENTS}",
    "mistral, all lost": f"get_weather{ARGUMENTS}",
    "deepseek v3.1": f"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{ARGUMENTS}<｜tool▁call▁end｜>",
    "deepseek r1, broken": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n",
    "deepseek, markers lost": f"function\nget_weather\n```json\n{ARGUMENTS}\n```",
    "harmony": f"<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{ARGUMENTS}<|call|>",
    "harmony, markers lost": f"commentary to=functions.get_weather json{ARGUMENTS}",
    "glm-4": f"get_weather\n{ARGUMENTS}",
    "glm-4.5": "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Oslo</arg_value>\n</tool_call>",
    "gemma": '```tool_code\nprint(default_api.get_weather(city="Oslo"))\n```',
    "gemma 3n": '<start_function_call>call:get_weather{city:"Oslo"}<end_function_call>',
    "glaive": f"<functioncall> {CALL} <|endoftext|>",
    "functools": f"functools[{CALL}]",
    "functools, broken": "functools[{'name': 'get_weather'}]",
    "functionary": f">>>get_weather\n{ARGUMENTS}",
    "react": "Thought: I need the weather.\nAction: get_weather\nAction Input: Oslo",
    "react, in bold": "**Action**: `get_weather`\n**Action Input**: Oslo",
    "label": "Tool: get_weather\nInput: Oslo",
    "command-r": 'Action: ```json\n[{"tool_name": "get_weather", "parameters": {"city": "Oslo"}}]\n```',
    "command-r7b": '<|START_ACTION|>[{"tool_call_id": "0", "tool_name": "get_weather"}]<|END_ACTION|>',
    "anthropic": '<function_calls>\n<invoke name="get_weather">\n<parameter name="city">Oslo</parameter>\n</invoke>',
    "anthropic, wrapper lost": '<invoke name="get_weather"><parameter name="city">Oslo</parameter></invoke>',
    "minimax": '<minimax:tool_call>\n<invoke name="get_weather">\n<parameter name="city">Oslo</parameter>',
    "cline": "<get_weather>\n<city>Oslo</city>\n</get_weather>",
    "element": "<tool_name>get_weather</tool_name><args>Oslo</args>",
    "attribute": '<tool name="get_weather" city="Oslo"/>',
    "kimi": f"<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>{ARGUMENTS}",
    "internlm": f"<|action_start|><|plugin|>\n{ARGUMENTS}<|action_end|>",
    "apertus": f'<|tools_prefix|>[{{"get_weather": {ARGUMENTS}}}]<|tools_suffix|>',
    "granite": f"<tool_call>[{CALL}]",
    "hunyuan": f"<tool_calls>\n<tool_call>get_weather\n```json\n{ARGUMENTS}\n```\n</tool_call>\n</tool_calls>",
    "gorilla": '<<function>>get_weather(city="Oslo")',
    "nexus": "Call: get_weather(city='Oslo')<bot_end>",
    "words before braces": f"Calling get_weather with the following arguments: {ARGUMENTS}",
    "full stop before braces": f"I will use get_weather.\n{ARGUMENTS}",
    "react, original": "Thought 1: The weather.\nAction 1: Get_Weather[Oslo]",
    "react, one line": "get_weather[Oslo]",
    "pythonic, another case": 'getWeather(city="Oslo")',
    "pythonic, quotation marks of a word processor": "get_weather(city=“Oslo”)",
    "json, quotation marks of a word processor": "{“name”: “get_weather”, “arguments”: {“city”: “Oslo”}}",
    "escaped for HTML": f"&lt;tool_call&gt;{CALL}&lt;/tool_call&gt;",
    "pythonic, of its own, alone": 'book_flight(to="Oslo")',
    "assignment": "get_weather city=Oslo",
    "assignment in prose": "I'm calling get_weather with city='Oslo'.",
    "command": "/get_weather Oslo",
    "command with quotes": 'get_weather "Oslo"',
    "the name alone": "get_weather",
    "the name alone in a fence": "```\nget_weather\n```",
    "the name alone in a list": '["get_weather"]',
    "lines": "get_weather\ncity: Oslo",
    "toml": '[get_weather]\ncity = "Oslo"',
    "lfm2": '<|tool_call_start|>[get_weather(city="Oslo")]<|tool_call_end|>',
    "olmo 3": '<function_calls>\nget_weather(city="Oslo")\n</function_calls>',
    "nemotron": f"<TOOLCALL>[{CALL}]</TOOLCALL>",
    "seed": "<seed:tool_call>\n<function=get_weather>\n<parameter=city>Oslo</parameter>",
    "granite 3.3, thinking": f"<think>Hm</think><response>{CALL}</response>",
    "yaml": "name: get_weather\narguments:\n  city: Oslo",
    "shell": "```bash\nget_weather --city Oslo\n```",
    "after thoughts": "<think>The weather, then.</think>\n[get_weather(city='Oslo')]",
    "thoughts without an end": "<think>I should use get_weather",
    "an arrow": f"get_weather → {ARGUMENTS}",
    "a table's bar": "get_weather | city: Oslo",
    "a semicolon": "get_weather; city: Oslo",
    "a colon behind the argument": 'get_weather city:"Oslo"',
    "OpenAI's older key as a label": "function_call: get_weather",
    "Chinese": '使用工具get_weather，参数{"city":"Oslo"}',
    "Chinese, labels": f"工具：get_weather\n参数：{ARGUMENTS}",
    "Chinese, a parenthesis": "get_weather（“Oslo”）",
    "Japanese": f"ツール：get_weather、引数：{ARGUMENTS}",
    "Korean": f"도구: get_weather\n매개변수: {ARGUMENTS}",
    "escaped for Markdown": 'get\\_weather(city="Oslo")',
    "an invisible character in the name": 'get_\u200bweather("Oslo")',
    "wide letters": "get＿weather（“Oslo”）",
    "javascript, camel case": 'getWeather({"city": "Oslo"})',
    "camel case, positional": 'Let me look: getWeather("Oslo")',
    "javascript, of its own": 'bookFlight({to: "Oslo"})',
    "json of no known keys": '{"recipient": "get_weather", "payload": {"city": "Oslo"}}',
    "json of no known keys, in a list": '[{"to": "get_weather", "with": {"city": "Oslo"}}]',
    "in brackets": "[get_weather: Oslo]",
    "shell, one hyphen": "get_weather -c Oslo",
    "a number in parentheses": "refund (17)",
    "a negative number in parentheses": "refund (-17, 2)",
}

REFUSING = {
    "prose": "A poet did.",
    "empty list": "[]",
    "the sentence that training teaches": "No tool is needed.",
    "names a tool": "I have no get_weather result for that.",
    "names both": "None of get_weather and refund fits.",
    "a parenthesis of words": "get_weather (the tool) does not apply.",
    "a parenthesis with an example": "I could use get_weather (e.g. for Oslo), but you ask about poems.",
    "a name with its parentheses": "Neither get_weather() nor refund() can tell who wrote a poem.",
    "signatures in a list": "I have:\n- get_weather(city): the weather\n- refund(order: integer): money\nNeither fits.",
    "a signature in a code span": "I'd need `get_weather(city)`, and you name no city. Which one?",
    "a citation's number": "As get_weather[1] says, no.",
    "a name and its arguments in words": "To use get_weather I need the city: which one?",
    "an equation": "There is get_weather, and x = 4.",
    "lines that begin with a name": "get_weather does not fit.\ncity: unknown",
    "Granite's tags": "<think>No.</think>\n<response>A poet did.</response>",
    "a name in a code span": "The tool `get_weather` does not answer that.",
    "a name in bold": "**get_weather** is for the weather.",
    "a name and a colon": "There are two tools, get_weather: the weather of a place, and refund: money back.",
    "a name in quotes": 'You have the tools "get_weather" and "refund". Neither helps.',
    "a list of names": "I can use:\n- get_weather\n- refund\nNeither fits.",
    "part of a word": "A refundable (fully) ticket, and refunds (all of them), are another matter.",
    "an object": '{"answer": "Emily Dickinson"}',
    "an object with a name": '{"name": "Emily Dickinson", "born": 1830}',
    "an object in a fence": '```json\n{"answer": "Emily Dickinson"}\n```',
    "a list": '["Emily Dickinson", "Sylvia Plath"]',
    "code in a fence": "```python\nprint('Because I could not stop for Death')\n```",
    "square brackets": "[Note] I cannot do this. The [first] tool {does} not fit.",
    "a citation": "[Dickinson(1890)] has it.",
    "thoughts that consider a call": f"<think>{CALL}? get_weather(city='Oslo')? No.</think>A poet did.",
    "closed thoughts": f"Perhaps <tool_call>{CALL}</tool_call>? No.\n</think>\n\nA poet did.",
    "end of turn": "A poet did.<|im_end|>\n<|endoftext|>",
    "an argument that is asked for": "I would need get_weather's city=? Please tell me.",
    "an argument that is left open": "To use get_weather I need city=… from you.",
    "an object that names a tool": '{"answer": "get_weather", "why": "the nearest, though it does not fit"}',
    "Chinese": "没有合适的工具，get_weather 只能查询天气（城市）。",
    "Chinese, in parentheses": "get_weather（天气查询）和 refund（退款）都不适用。",
    "Japanese": "get_weatherは使えません（都市が不明です）。",
    "a name, a colon and a question": "refund: which order is it?",
    "a compound": "I can only help with refund-related questions.",
    "a compound of a name": "I know no get_weather-based tools.",
    "a dash": "Neither fits: refund -- money back, get_weather - the weather.",
    "a plural": "Which refund(s) do you mean, and which refund(S)?",
    "a number in words": "I can translate (1 text at a time), or refund (2 or 3 orders).",
    "words that sound like a tool's name": "I cannot get weather (it is not a tool of mine).",
    "harmony's final channel": "<|channel|>analysis<|message|>No tool.<|end|><|start|>assistant<|channel|>final<|message|>A poet.",
}


def score(text, answer=()):
    messages = [{"role": "user", "content": "Who wrote this poem?"}]
    example = Example("1", "1", messages, list(answer), tools=TOOLS)
    return KIND.score(example, Prediction("1", "ok", raw=text))


def test_there_are_enough_of_both():
    assert len(CALLING) >= 60
    assert len(REFUSING) >= 20


@pytest.mark.parametrize("name", CALLING)
def test_a_reply_that_calls_is_never_an_abstention(name):
    scored = score(CALLING[name])
    assert scored.scores["ast_match_rate"] == scored.scores["abstain_rate"] == 0
    assert scored.reason in ("unneeded_call", "invalid_call")


@pytest.mark.parametrize("name", REFUSING)
def test_a_reply_that_only_speaks_abstains(name):
    scored = score(REFUSING[name])
    assert scored.scores["ast_match_rate"] == scored.scores["abstain_rate"] == 1
    assert scored.reason is None
    wanted = score(REFUSING[name], [{"name": "refund", "arguments": {"order": 1}}])
    assert (wanted.scores["ast_match_rate"], wanted.reason) == (0, "no_call")


@pytest.mark.parametrize("name", ["a.b", "x", "get-weather", "(", "日本", "a" * 500])
def test_any_name_may_be_offered(name):
    assert attempts_call(f'{name}(city="Oslo")', [name])
    assert attempts_call(f"Use {name} {json.dumps({'city': 1})}", [name])
    assert not attempts_call(f"There is {name} for the weather.", [name])


@pytest.mark.parametrize("text", ["", " \n", "\u200b", "\u200b\u2060 \ufeff", "\x00"])
def test_a_reply_that_shows_nothing_is_none(text):
    assert score(text).scores["ast_match_rate"] == 0


@pytest.mark.parametrize("text", ["\u2028", "\x1c", "\u3000\n\x85", "`\u2028`", "/", '"', "get_weather \u2028"])
def test_odd_spaces_are_no_attempt_and_no_crash(text):
    assert not attempts_call(text, ["refund"])
    attempts_call(text, ["get_weather"])


def test_a_reply_that_never_stops_naming_a_tool_is_no_abstention():
    assert attempts_call("get_weather, " * 6_000, ["get_weather"])
    assert not attempts_call("get_weather, " * 100, ["get_weather"])


@pytest.mark.parametrize("finish", ["tool_calls", "function_call", "tool_use"])
def test_words_that_end_in_a_call_that_did_not_come_are_no_abstention(finish):
    example = Example("1", "1", [{"role": "user", "content": "Who wrote this poem?"}], [], tools=TOOLS)
    scored = KIND.score(example, Prediction("1", "ok", raw="Let me look.", finish_reason=finish))
    assert (scored.scores["ast_match_rate"], scored.reason) == (0, "invalid_call")
    assert KIND.score(example, Prediction("1", "ok", raw="A poet.", finish_reason="stop")).scores["ast_match_rate"] == 1
    wanted = Example("1", "1", example.messages, [{"name": "refund", "arguments": {"order": 1}}], tools=TOOLS)
    said = '<tool_call>{"name": "refund", "arguments": {"order": 1}}</tool_call>'
    assert KIND.score(wanted, Prediction("1", "ok", raw=said, finish_reason=finish)).scores["ast_match_rate"] == 1
