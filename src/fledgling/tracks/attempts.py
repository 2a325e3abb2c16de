"""Whether a reply that holds no readable call tries to call a tool all the same.

A reply that tries and fails is wrong, one that does not try abstains, which may be right: so that a call in a dialect
that is not read never passes for an abstention. An attempt is

* markup that dialects of tool calls use, wherever it stands;
* a reply that begins, perhaps in a fence, like JSON of a call: a name and arguments, or a broken text with either;
* a list of Python calls at the beginning, or nothing but one Python call with named arguments;
* the name of an *offered* tool, in any case, next to arguments or markup: `name(city="Oslo")`, `name {"city": …}`,
  `name[Oslo]`, `<name>`, `"name": "…"`, `Action: name`, `name --city Oslo`, `name … city=Oslo`;
* nothing but such a name: alone, as a command (`/name Oslo`), or with a line for each argument.

Naming a tool is no attempt ("None of get_weather and refund fits", "get_weather (the tool) does not apply",
"get_weather() is not the right one", "get_weather(city, days) needs a city", "weather-related", "order(s)"), nor is a
fence or an object that is no call (`{"answer": …}`). Quotation marks of a word processor and HTML's escapes count as
what they stand for.
"""

import html
import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence

from fledgling import strict_json

CALLED = ("tool_calls", "function_call", "tool_use")  # reasons to end a reply that say that it calls
_MARKUP = re.compile(
    r"</?[|｜]?/?(?:tool[_▁]?calls?|function[_▁]?calls?|tool_use|tool_code|invoke|arg_key|minimax:tool_call|seed:tool_call)\b"
    r"|</?(?:function|parameter)(?:=|\s{1,4}name=)"
    r"|<[|｜](?:python_tag|plugin|action_start|START_ACTION|tools_prefix|tool[_▁])"
    r"|\[TOOL_CALLS\]|functools\[|✿FUNCTION✿|```tool_c|to=functions\.|<start_function_call>"
)
_FENCE = re.compile(r"```[\w-]{0,32}[ \t]{0,8}\n\s{0,64}")
_KEY = re.compile(r"[\"']([A-Za-z_]{2,16})[\"']\s{0,8}:")
_NAMES = frozenset(("name", "function", "function_name", "tool", "tool_name", "recipient_name"))
_ARGUMENTS = frozenset(("arguments", "parameters", "args", "params", "kwargs", "input", "action_input"))
_TYPOGRAPHY = str.maketrans(dict.fromkeys("“”„‟", '"') | dict.fromkeys("‘’‚‛", "'") | {"（": " ("})
_NO_SPACES = re.compile("[\u3041-\u30ff\u3400-\u9fff\uac00-\ud7af]")  # of scripts that put a name beside their words
_FORMLESS = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
_SEPARATORS = str.maketrans("", "", "_-.")
_PYTHON = re.compile(r"\[\s{0,64}[A-Za-z_][\w.]{0,256}\((?:\s{0,8}\)|\s{0,8}\w{1,64}\s{0,4}=)")
_ONE_CALL = re.compile(
    r"(?:print\()?[A-Za-z_][\w.]{0,256}\(\s{0,8}(?:\w{1,64}\s{0,4}=[^=]|\{\s{0,8}(?:[\"'}]|\w{1,64}\s{0,4}:))"
)
_COMMAND = re.compile(r"[/!@$]")
_DECORATION = " \t\r\n`'\"*_#()[]{}<>:;,.-"
_KEYED = re.compile(r"\W{0,8}(\w{1,64})[`\"'*]{0,4}\s{0,4}[:=]")
_GIVEN = re.compile(r"(\w{1,64})[`*]{0,2}\s?=\s?[^\s=?.,;…]")
_GIVEN_NEXT = re.compile(r"[`\"'*\s,;|]{1,8}[`\"'*]{0,2}(\w{1,64})[`\"'*]{0,2}\s{0,2}[:=]\s{0,2}[^\s:=?.,;…]")
_WINDOW = 160  # characters around a name that are looked at
_MENTIONS = 5_000  # of offered names that are looked at; a reply with more is no abstention

_PARENTHESIS = re.compile(r"[\"'`*]{0,4}(?:\.\w{1,20})?\(")
_PLURAL = re.compile(r"\((?:e?s|ies)\)", re.IGNORECASE)
_SPACED = re.compile(
    r"[\"'`*]{0,4}\s{1,3}\(\s{0,4}"
    r"(?:\w{1,64}\s{0,4}=|\w{1,64}:\s{0,4}[\"'\d{\[]|[\"'{\[]|-?\d[\d.]{0,20}\s{0,4}[,)])"
)
_BRACE = re.compile(
    r"[\"'`*\s:=,>.→⇒、。はを\-]{0,16}"
    r"(?:(?:with|using|and|the|following|arguments?|args|parameters?|params|inputs?|json)[\"'`*\s:=,>.→⇒\-]{1,8}"
    r"|(?:参数|參數|引数|매개변수)[为是為はを]?[\"'`*\s:=,>.→⇒、。\-]{0,8}){0,5}"
    r"\{\s{0,16}(?:[\"'}]|\w{1,64}\s{0,4}:)",
    re.IGNORECASE,
)
_AFTER = re.compile(
    r"\[(?!\d{0,8}\])|\s{0,4}(?:\[ARGS\]|\[CALL_ID\]|<[|｜]|:\d{1,4}<|<(?:param|arg|input))|\s{1,4}--?\w"
    r"|[`*\"']{0,4}\s{0,8}\n\W{0,4}(?:action[ _]?input|input|arguments|parameters|args|params)\b\W{0,3}[:=]",
    re.IGNORECASE,
)
_QUOTED = re.compile(
    r"[\"']?(?:name|tool|tool_name|function|function_name|recipient_name|action|api|call)[\"']?\s{0,4}[:=]\s{0,4}"
    r"[\"'](?:functions\.)?$",
    re.IGNORECASE,
)
_ELEMENT = re.compile(
    r"<(?:tool|name|tool_name|function|function_name|invoke|action|api|call)\b[^<>]{0,64}>\s{0,8}$", re.IGNORECASE
)
_LABEL = re.compile(
    r"(?:^|\n)\W{0,6}(?:action|tool|tool_name|tool_call|function|function_name|function_call|api|call|invoke"
    r"|工具|函数|函數|调用|調用|ツール|関数|도구|함수)(?: \d{1,3})?\W{0,4}[:=]\W{0,8}(?:functions\.)?$",
    re.IGNORECASE,
)
_LINE_ENDS = re.compile(r"[`\"'*]{0,4}[ \t]{0,8}(?:\r?\n|$)")


def attempts_call(text: str, offered: Iterable[str] = (), arguments: Collection[str] = ()) -> bool:
    """Whether a reply, its thoughts left out, tries to call a tool.

    `offered` names the tools that the row has, `arguments` all their arguments.
    """
    text = _plain(text)
    start = strict_json.skip_space(text, 0)
    if fence := _FENCE.match(text, start):
        start = fence.end()
    if _MARKUP.search(text) or _PYTHON.match(text, start) or _begins_like_call(text, start):
        return True
    names = list(dict.fromkeys(spelling for name in offered if name for spelling in _spellings(_lower(_plain(name)))))
    known = frozenset(map(_lower, arguments))
    if _is_nothing_else(text[start:], names, known) or _is_addressed(text, start, names):
        return True
    lowered, left = _lower(text), _MENTIONS
    for name in names:
        at = lowered.find(name)
        while at >= 0:
            left -= 1
            if left < 0 or _is_used(text, at, at + len(name), known):
                return True
            at = lowered.find(name, at + len(name))
    return False


def _plain(text: str) -> str:
    """A text with straight quotation marks and plain letters, and without the escapes of HTML and Markdown."""
    if not text.isascii():
        text = _FORMLESS.sub("", unicodedata.normalize("NFKC", text.translate(_TYPOGRAPHY)))
    text = text.replace("\\_", "_")  # as Markdown has it
    return html.unescape(text) if "&lt;" in text or "&quot;" in text else text


def _lower(text: str) -> str:
    """Small letters, if each letter has one: a few of other scripts have two."""
    lowered = text.lower()
    return lowered if len(lowered) == len(text) else text


def _spellings(name: str) -> tuple[str, ...]:
    """A name, and as languages without its separators write it: get_weather, getWeather, math_sqrt for math.sqrt."""
    return name, name.translate(_SEPARATORS), name.replace(".", "_").replace("-", "_")


def _is_nothing_else(text: str, names: Sequence[str], arguments: Collection[str]) -> bool:
    """Whether a reply is a call and nothing else: a Python call, a command, a name, or a name and its arguments."""
    body = text.strip(" \t\r\n`;")
    if _ONE_CALL.match(body) and body.endswith(")"):
        return True
    lines = [line for line in _lower(body).split("\n", 64) if line.strip(_DECORATION)]
    if not lines or len(lines[0]) > 512:
        return False
    if any(lines[0].strip(_DECORATION) == name.strip(_DECORATION) for name in names):
        return all((found := _KEYED.match(line)) and found[1] in arguments for line in lines[1:])
    if len(lines) > 1:
        return False
    line = lines[0].strip()
    inside = line[1:] if line[:1] == "[" and line.endswith("]") else line
    for name in names:
        rest = inside[len(name) :] if inside.startswith(name) else ""
        if rest and not _is_word(rest[:1]) and inside is not line:
            return True
        if (given := _GIVEN_NEXT.match(rest)) and given[1] in arguments:
            return True
    if _COMMAND.match(line):
        return any(line.startswith(name, 1) and not _is_word(line[1 + len(name) :][:1]) for name in names)
    return line.endswith(('"', "'")) and line.startswith(tuple(f"{name} {quote}" for name in names for quote in "\"'"))


def _is_addressed(text: str, start: int, names: Collection[str]) -> bool:
    """Whether a reply begins with JSON in which a name and an object stand side by side, whatever their keys."""
    if text[start : start + 1] not in ("{", "["):
        return False
    try:
        value = strict_json.scan(text, start)[0]
    except ValueError:
        return False
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            parts = list(node.values())
            named = any(isinstance(part, str) and _lower(part) in names for part in parts)
            if named and any(isinstance(part, dict) and part for part in parts):
                return True
            waiting += parts
        elif isinstance(node, list):
            waiting += node
    return False


def _begins_like_call(text: str, start: int) -> bool:
    if text[start : start + 1] not in ("{", "["):
        return False
    keys = set(_KEY.findall(text, start, start + (1 << 16)))
    named, arguments = keys & _NAMES, keys & _ARGUMENTS
    if "tool_calls" in keys or (named and arguments):
        return True
    if not named and not arguments:
        return False
    try:
        strict_json.scan(text, start)
    except ValueError:
        return True
    return False


def _is_used(text: str, start: int, end: int, arguments: Collection[str]) -> bool:
    """Whether the name between two places stands next to arguments or markup."""
    if _goes_on(text[start], text[start - 1 : start]) or _goes_on(text[end - 1], text[end : end + 1]):
        return False
    before, after = text[max(0, start - _WINDOW) : start], text[end : end + _WINDOW]
    if _PLURAL.match(after):  # "Which order(s)?"
        return False
    if opening := _PARENTHESIS.match(after):
        listed, closed, rest = after[opening.end() :].partition(")")
        if not closed or not _is_signature(listed, arguments):
            return True
        line = text[text.rfind("\n", 0, start) + 1 : start] + rest.partition("\n")[0]
        return not re.search(r"\w", line.replace("functions", "").replace("print", ""))
    if _SPACED.match(after) or _BRACE.match(after) or _AFTER.match(after):
        return True
    if any(name.lower() in arguments for name in _GIVEN.findall(after.partition("\n")[0])):
        return True
    if before.endswith((">>>", "<", "</")) and (before[-1] != "<" or after[:1] in (">", " ", "/", "\n")):
        return True
    if _QUOTED.search(before) and after[:1] in ("'", '"'):
        return True
    return bool(_ELEMENT.search(before) or (_LABEL.search(before) and _LINE_ENDS.match(after)))


def _is_signature(listed: str, arguments: Collection[str]) -> bool:
    """Whether what a parenthesis lists is nothing, or declared arguments, as in a description of a tool."""
    names = [part.partition(":")[0].strip(" \t\n`*'\"").lower() for part in listed.split(",")]
    return not listed.strip() or all(name in arguments for name in names)


def _goes_on(edge: str, beside: str) -> bool:
    """Whether the character beside a name belongs to a longer word."""
    return _is_word(beside) and not (edge.isascii() and _NO_SPACES.match(beside))


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"
