"""What the slm reads and what it should write: one row in the model's own chat template and tool dialect.

Nothing here knows families of models. A `Chat` tries the template once, with turns that it makes up, and so finds
what the template takes (tools, calls, results, a system message, which ids) and what has to be put in words instead.
"""

import hashlib
import json
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from fledgling import strict_json
from fledgling.errors import ConfigError, DataError
from fledgling.prompting import turns
from fledgling.prompting.sandbox import Renderer, RenderError
from fledgling.records import Example
from fledgling.tracks.dialects import parse_calls

log = logging.getLogger(__name__)

Object = dict[str, Any]
Choice = Literal["auto", "phi4", "native"]

NO_CALL = "No tool is needed."
SYSTEM = "You are a helpful assistant with some tools."  # the sentence of Phi-4-mini's model card
TOOLS = (
    "# Tools\n\nYou may call one or more of these functions to serve the request; each line defines one:\n{tools}\n\n"
    "To call a function, answer with the call alone, written like this:\n{example}\n\n"
    "Where none is needed, answer in words."
)
MARK = "fledgling 42"  # stands for any content while a template is tried
OPEN_THOUGHT = re.compile(r"<think>\s*(</think>\s*)?\Z")
NINE = re.compile(r"[A-Za-z0-9]{9}")
DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
TRIED: Object = {"name": "set_light", "arguments": {"room": "attic", "level": 2}}
TRIED_TOOL: Object = {
    "type": "function",
    "function": {
        "name": "set_light",
        "description": "Control a lamp.",
        "parameters": {
            "type": "object",
            "properties": {"room": {"type": "string"}, "level": {"type": "integer"}},
            "required": ["room", "level"],
        },
    },
}


class Refused(DataError):
    """A row that the chat template does not take; the other rows are not concerned."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What the model should write: a text, and the token that ends its turn."""

    text: str
    end: int


@dataclass(frozen=True, slots=True)
class Opening:
    """How the model's turn starts: white space, then a thought: none, one that is left empty, or inside of one."""

    space: str
    thought: Literal["none", "empty", "open"]


@dataclass(frozen=True, slots=True)
class Manner:
    """What a chat template takes, and so how rows are put to it.

    tools       phi4: as text under the system message's `tools` key; template: through `tools=`; words: in the
                system message, by us
    calls       template: it writes an assistant's `tool_calls`; phi4, words: we write them, as content
    one         it takes a turn with one call
    several     it takes a turn with several calls
    results     template: it has a place for a tool's result; phi4: as role `tool_response`; words: in a user's turn
    arguments   it takes a call's arguments as an object, or as JSON text
    nine        it takes call ids of nine letters and digits only
    system      it has a place for a system message, or the first user's turn holds it
    alternates  it takes user and assistant by turns only
    """

    tools: Literal["phi4", "template", "words"]
    calls: Literal["phi4", "template", "words"]
    results: Literal["phi4", "template", "words"]
    one: bool = True
    several: bool = True
    arguments: Literal["object", "text"] = "object"
    nine: bool = False
    system: bool = True
    alternates: bool = False


class Chat:
    """A model's chat template, tried: renders the rows that the model reads, and what it should write."""

    def __init__(self, tokenizer: Any, choice: str = "auto") -> None:
        """Try the template of a tokenizer; `choice` other than auto decides how tools and calls are put.

        Raises:
            ConfigError: there is no chat template.
            DataError: it renders nothing, not even the plainest conversation.
        """
        self.tokenizer = tokenizer
        special = {name: str(token) for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
        self._default = Renderer(template_of(tokenizer), special)
        with_tools = template_of(tokenizer, tools=True)
        self._with_tools = self._default if with_tools == template_of(tokenizer) else Renderer(with_tools, special)
        self._parts = False
        self._after = self._plain_turn()
        self.end = self._end_token(self._after)
        self.manner = self._tried(choice, template_of(tokenizer))

    # --- what callers ask

    def prompt(self, example: Example, *, schema: turns.Place = "none", shots: Sequence[Example] = ()) -> str:
        """The prompt text of one row: its turns, its tools and, if asked, its schema, up to where the model writes.

        It holds every special token it needs: tokenize it with add_special_tokens=False. `shots` are answered rows
        that come before the row's own turns, as turns of the same conversation.

        Raises:
            Refused: the template does not take the row, or drops its tools; names the row.
        """
        return self._conversation(example, schema, shots)[1]

    def completion(
        self, example: Example, *, schema: turns.Place = "none", shots: Sequence[Example] = ()
    ) -> Completion:
        """What the model should write for one row: what its template renders with the answer, less what it asks with.

        Raises:
            Refused: the row has no gold answer (any call would be right), or the template does not take it, or writes
                something that does not read as the answer.
        """
        if example.answer is None:
            raise Refused(f"row {example.id!r}: it has no gold answer, so it cannot be trained on")
        calls = _gold_calls(example)
        before, asked = self._conversation(example, schema, shots)
        plain: Object = {"role": "assistant", "content": self.reply(example)}
        why = ""
        for turn in [self._assistant(calls), plain] if calls else [plain]:
            try:
                text, end = self._written(before, asked, turn, self._tools(example))
            except RenderError as error:
                why = why or f"refuses its answer ({error})"
                continue
            if _reads_as(text, example, calls):
                return Completion(text, end)
            why = why or f"writes for its answer what does not read as that answer ({text[:120]!r})"
        raise Refused(f"row {example.id!r}: the chat template of the slm {why}")

    def reply(self, example: Example) -> str:
        """The gold answer as the model writes it, without what its template puts around."""
        calls = _gold_calls(example)
        return self.calls_text(calls) if calls else content_of(example)

    def stops(self) -> set[int]:
        """The tokens that end the model's turn: after words, and after calls."""
        ends = {self.end}
        if self.manner.calls == "template":
            tools = [TRIED_TOOL] if self.manner.tools == "template" else None
            asked = self._render([_user()], tools, ask=True)
            ends.add(self._written([_user()], asked, self._assistant([TRIED]), tools)[1])
        return ends

    def calls_text(self, calls: list[Object], ids: Sequence[str] = ()) -> str:
        """Calls ({"name", "arguments"}) as the model writes them, between any thoughts and the end of its turn.

        `ids` are theirs where the conversation has given them some.
        """
        if self.manner.calls == "phi4":
            return f"<|tool_call|>{compact(calls)}<|/tool_call|>"
        if self.manner.calls == "words":
            return "\n".join(f"<tool_call>\n{_spaced(call)}\n</tool_call>" for call in calls)
        if len(calls) > 1 and not self.manner.several:
            return "; ".join(self.calls_text([call], ids[at : at + 1]) for at, call in enumerate(calls))
        tools = [TRIED_TOOL] if self.manner.tools == "template" else None
        text, _ = self._written([_user()], self._render([_user()], tools, ask=True), self._assistant(calls, ids), tools)
        return re.sub(r"\A\s*(<think>)?\s*</think>\s*", "", text).strip("\n")

    def opening(self) -> Opening:
        """How the model's turn starts, before its words or calls."""
        asked = self._render([_user()], None, ask=True)
        text, _ = self._written([_user()], asked, {"role": "assistant", "content": MARK}, None)
        thought: Literal["none", "empty", "open"] = "none"
        if "</think>" in text:
            thought = "empty" if "<think>" in text else "open"
        return Opening(text[: len(text) - len(text.lstrip())], thought)

    # --- turns

    def _conversation(self, example: Example, place: turns.Place, shots: Sequence[Example]) -> tuple[list[Object], str]:
        """The turns of a row, and the text that asks it.

        Where the template refuses or drops something, its calls are tried as content (Mistral's counts user and
        assistant without calls), then its system message in the first user's turn.

        Raises:
            Refused: none of these renders the whole row.
        """
        why: RenderError | None = None
        for manner in self._manners():
            try:
                made = self._turns(example, place, shots, manner)
                return made, self._asked(example, made)
            except RenderError as error:
                why = why or error
                if error.endless:
                    break
        raise Refused(f"row {example.id!r}: the chat template of the slm refuses it ({why})")

    def _manners(self) -> Iterator[Manner]:
        yield self.manner
        if self.manner.calls == "template":
            yield replace(self.manner, several=False, one=False)
        if self.manner.system:
            yield replace(self.manner, system=False)

    def _turns(self, example: Example, place: turns.Place, shots: Sequence[Example], manner: Manner) -> list[Object]:
        given = [dict(message) for message in turns.messages(example, place)]
        for message in given:
            if message.get("role") == "developer":
                message["role"] = "system"
        names = _Ids(nine=manner.nine)
        made = [self._turn(message, names, manner) for message in given]
        if shots:
            at = 1 if made and made[0]["role"] == "system" else 0
            made[at:at] = [turn for shot in shots for turn in self._shot(shot, manner)]
        if example.tools and manner.tools != "template":
            made = self._with_tools_in_words(made, example.tools)
        if not manner.system:
            made = _without_system(made)
        return _alternating(made) if manner.alternates else made

    def _shot(self, shot: Example, manner: Manner) -> list[Object]:
        names = _Ids(nine=manner.nine)
        asked = [self._turn(message, names, manner) for message in shot.messages if not _leads(message)]
        return [*asked, {"role": "assistant", "content": self.reply(shot)}]

    def _turn(self, message: Object, names: "_Ids", manner: Manner) -> Object:
        role, content = message.get("role"), turns.text_of(message.get("content"))
        if role == "tool":
            if manner.results == "phi4":
                return {"role": "tool_response", "content": content}
            if manner.results == "words":
                return {"role": "user", "content": f"<tool_response>\n{content}\n</tool_response>"}
            turn: Object = {"role": "tool", "content": content, "tool_call_id": names.answered(message)}
            return turn | ({"name": message["name"]} if "name" in message else {})
        turn = {"role": role, "content": content}
        calls = message.get("tool_calls")
        if not calls:
            return turn
        called = [_history_call(call) for call in (calls if isinstance(calls, list) else [calls])]
        names.turn()
        ids = [
            names.called(call, whole["name"])
            for call, whole in zip(calls if isinstance(calls, list) else [calls], called, strict=True)
        ]
        if _through_template(manner, len(called)):
            return turn | {"tool_calls": [self._call(call, id) for call, id in zip(called, ids, strict=True)]}
        return turn | {"content": content + self.calls_text(called, ids)}

    def _assistant(self, calls: list[Object], ids: Sequence[str] = ()) -> Object:
        if _through_template(self.manner, len(calls)):
            names = _Ids(nine=self.manner.nine)
            known = ids or [names.called({}) for _ in calls]
            made = [self._call(call, id) for call, id in zip(calls, known, strict=True)]
            return {"role": "assistant", "content": "", "tool_calls": made}
        return {"role": "assistant", "content": self.calls_text(calls)}

    def _call(self, call: Object, id: str) -> Object:
        arguments = call["arguments"]
        if self.manner.arguments == "text" and not isinstance(arguments, str):
            arguments = _spaced(arguments)
        return {"id": id, "type": "function", "function": {"name": call["name"], "arguments": arguments}}

    def _tools(self, example: Example) -> list[Object] | None:
        return [_whole(tool) for tool in example.tools] if example.tools and self.manner.tools == "template" else None

    def _with_tools_in_words(self, made: list[Object], tools: list[Object]) -> list[Object]:
        led = bool(made) and made[0]["role"] == "system"
        rest = made[1:] if led else made
        if self.manner.tools == "phi4":
            head = made[0] if led else {"role": "system", "content": SYSTEM}
            return [head | {"tools": compact(definitions(tools))}, *rest]
        example = self.calls_text([{"name": "function_name", "arguments": {"argument": "value"}}])
        text = TOOLS.format(tools="\n".join(compact(_function(_whole(tool))) for tool in tools), example=example)
        before = f"{made[0]['content']}\n\n" if led and made[0]["content"] else ""
        return [{"role": "system", "content": before + text}, *rest]

    # --- rendering

    def _render(self, messages: Sequence[Object], tools: Sequence[Object] | None, *, ask: bool) -> str:
        renderer = self._with_tools if tools else self._default
        if self._parts:
            messages = [turn | {"content": [{"type": "text", "text": turn["content"]}]} for turn in messages]
        return renderer.render(messages, tools, add_generation_prompt=ask)

    def _asked(self, example: Example, made: list[Object]) -> str:
        text = self._render(made, self._tools(example), ask=True)
        for tool in example.tools or []:
            if (name := _function(tool).get("name")) and str(name) not in text:
                raise RenderError("it drops the tools; set slm.tool_dialect to auto, or take a model that takes tools")
        for turn in made:
            if turn["role"] in ("system", "user") and turn["content"].strip() not in text:
                raise RenderError(f"it drops or changes the words of role {turn['role']}")
        return text

    def _written(
        self, before: list[Object], asked: str, turn: Object, tools: Sequence[Object] | None
    ) -> tuple[str, int]:
        """What stands in the conversation for a turn of the model, from where it is asked to write, and how it ends."""
        whole = self._render([*before, turn], tools, ask=False)
        thought = OPEN_THOUGHT.search(asked)
        stem = asked[: thought.start()] if thought else asked
        if whole.startswith(asked):
            text = whole[len(asked) :]
        elif thought and whole.startswith(stem):  # the prompt opens a thought that the conversation leaves out
            text = ("" if thought[1] else "</think>\n\n") + whole[len(stem) :]
        else:  # the turn changes what stands before it: find its place by another turn's
            other = self._render([*before, {"role": "assistant", "content": MARK}], tools, ask=False)
            start = other.rpartition(MARK)[0]
            here = asked.startswith(start) or asked[-4:] == start[-4:]
            if not start or not here or not whole.startswith(start):
                raise RenderError("it writes an answer elsewhere than where it asks for one")
            text = whole[len(start) :]
        return self._without_end(text)

    def _without_end(self, text: str) -> tuple[str, int]:
        if self._after and text.endswith(self._after):
            return text.removesuffix(self._after), self.end
        tokens = self.tokenizer.convert_ids_to_tokens([self.end, self.tokenizer.eos_token_id])
        ends = "|".join(re.escape(token) for token in {*tokens, "<|eom_id|>"} if token)
        found = re.search(rf"\s*({ends})(?:\s|{ends})*\Z", text)
        if found is None:
            return text.rstrip(), self.end
        end = self.tokenizer.convert_tokens_to_ids(found[1])
        return text[: found.start()], self.end if end is None else end

    # --- trying

    def _plain_turn(self) -> str:
        """What the template writes after the words of the model's turn; templates for pictures take words as parts."""
        reason = "it drops what the model says"
        for self._parts in (False, True):
            try:
                text = self._render([_user(), {"role": "assistant", "content": MARK}], None, ask=False)
            except RenderError as error:
                reason = str(error)
                continue
            if MARK in text:
                return text.rpartition(MARK)[2]
        raise DataError(f"the chat template of the slm does not render a question and its answer: {reason}")

    def _end_token(self, after: str) -> int:
        """The token that ends a turn in words: the first special one after it, or the tokenizer's own end.

        It is what training has to teach and what generation has to stop at; the tokenizer's `eos_token` is another
        one in Phi-4-mini, Qwen and others.
        """
        ids = self.tokenizer(after.strip(), add_special_tokens=False)["input_ids"]
        if ids and ids[0] in set(self.tokenizer.added_tokens_decoder):
            return ids[0]
        return ids[0] if ids and self.tokenizer.eos_token_id is None else self.tokenizer.eos_token_id

    def _takes(self, messages: list[Object], tools: list[Object] | None = None) -> str | None:
        try:
            return self._render(messages, tools, ask=True)
        except RenderError:
            return None

    def _tried(self, choice: str, template: str) -> Manner:
        system = self._takes([{"role": "system", "content": MARK}, _user()])
        same: Object = {
            "system": system is not None and MARK in system,
            "alternates": self._takes([_user(), _user()]) is None,
        }
        if choice == "phi4" or (choice == "auto" and "<|tool|>" in template):
            return Manner(tools="phi4", calls="phi4", results="phi4", **same)
        offered = self._takes([_user()], [TRIED_TOOL])
        native = choice == "native" or (offered is not None and TRIED_TOOL["function"]["name"] in offered)
        tools: Literal["template", "words"] = "template" if native else "words"
        for arguments in ("object", "text"):
            manner = Manner(tools=tools, calls="template", results="template", arguments=arguments, **same)
            if reads := self._calls_as(manner):
                manner = replace(manner, several=reads > 1)
                manner = replace(manner, nine=not self._takes_any_id(manner))
                return manner if self._keeps_results(manner) else replace(manner, results="words")
        if tools == "template" and choice == "auto":
            tools = "words"  # it offers the tools, and says nothing of calls that could be read
            log.warning("the chat template of the slm has no form for calls that is read; calls are asked for in words")
        manner = Manner(tools=tools, calls="words", results="template", **same)
        return manner if self._keeps_results(manner) else replace(manner, results="words")

    def _calls_as(self, manner: Manner) -> int:
        """How many calls of a turn come out as they went in: none, 1, or 2 for several."""
        self.manner, most = manner, 0
        for count in (1, 2):
            calls = [TRIED | {"arguments": {**TRIED["arguments"], "level": n}} for n in range(count)]
            try:
                tools = [TRIED_TOOL] if manner.tools == "template" else None
                asked = self._render([_user()], tools, ask=True)
                text, _ = self._written([_user()], asked, self._assistant(calls), tools)
            except RenderError:
                return most
            read = parse_calls(text)
            if read is None or [{"name": call.name, "arguments": call.arguments} for call in read] != calls:
                return most
            most = count
        return most

    def _takes_any_id(self, manner: Manner) -> bool:
        self.manner = manner
        call = self._call(TRIED, "call_of-some-length")
        return self._takes([_user(), {"role": "assistant", "content": "", "tool_calls": [call]}]) is not None

    def _keeps_results(self, manner: Manner) -> bool:
        self.manner = manner
        history = [
            _user(),
            self._assistant([TRIED]),
            {"role": "tool", "content": MARK, "tool_call_id": _Ids(nine=True).called({}), "name": TRIED["name"]},
        ]
        text = self._takes(history)
        return text is not None and MARK in text


def chat(tokenizer: Any, choice: str = "auto") -> Chat:
    """The chat template of a tokenizer, tried; see Chat."""
    found = Chat(tokenizer, choice)
    manner = found.manner
    if manner.tools == "words":
        log.info("the chat template of the slm takes no tools: the system message lists them")
    if not manner.system:
        log.info("the chat template of the slm takes no system message: the first user's turn holds it")
    return found


def template_of(tokenizer: Any, *, tools: bool = False) -> str:
    """The text of a tokenizer's chat template; of several by name, the one for tools, or the default.

    Raises:
        ConfigError: there is none.
    """
    template = tokenizer.chat_template
    if isinstance(template, dict):
        named = template.get("tool_use") if tools else None
        template = named or template.get("default") or next(iter(template.values()), None)
    if not template:
        raise ConfigError("the checkpoint has no chat template, so it cannot be prompted; take an instruct model")
    return str(template)


def content_of(example: Example) -> str:
    """The answer of a row as words: compact JSON with keys in gold order, or that no tool is needed."""
    return NO_CALL if not example.is_json and example.answer == [] else compact(example.answer)


def definitions(tools: list[Object]) -> list[Object]:
    """Tools as Phi-4-mini's model card lists them: {"name", "description", "parameters": {argument: schema}}.

    That form has no place for `required` and other keywords. Where it would lose something of any
    tool, all parameters stay whole JSON Schemas.
    """
    functions = [_function(tool) for tool in tools]
    flat = all(_is_flat(function.get("parameters") or {}) for function in functions)
    rows = []
    for function in functions:
        row = {"name": function["name"]}
        if function.get("description"):
            row["description"] = function["description"]
        parameters = function.get("parameters") or {}
        row["parameters"] = parameters.get("properties", {}) if flat else parameters
        rows.append(row)
    return rows


def compact(value: object) -> str:
    """JSON without spaces, keys in the order given."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class _Ids:
    """Ids of the calls of a conversation: the row's own where the template takes them, made up where there are none."""

    def __init__(self, *, nine: bool) -> None:
        self._nine = nine
        self._count = 0
        self._waiting: list[tuple[str, str]] = []  # ids and tools of the last turn's calls that have no result yet

    def turn(self) -> None:
        """Another turn with calls begins; results that never came do not come any more."""
        self._waiting.clear()

    def called(self, call: object, name: str = "") -> str:
        """The id of a call."""
        own = call.get("id") if isinstance(call, dict) else None
        made = self._fitting(own) if isinstance(own, str) and own else f"call{self._count:05d}"
        self._count += 1
        self._waiting.append((made, name))
        return made

    def answered(self, message: Object) -> str:
        """The id of the call that a tool's result belongs to: the one it names, by id or by its tool, or the first without
        a result."""
        own, named = message.get("tool_call_id"), message.get("name")
        if isinstance(own, str) and own:
            made = self._fitting(own)
        else:
            first = [id for id, _ in self._waiting]
            made = next(iter([*(id for id, name in self._waiting if name == named), *first]), "")
        self._waiting = [waiting for waiting in self._waiting if waiting[0] != made]
        return made or "call00000"

    def _fitting(self, own: str) -> str:
        if not self._nine or NINE.fullmatch(own):
            return own
        number = int.from_bytes(hashlib.sha256(own.encode("utf-8", "surrogatepass")).digest()[:8], "big")
        return "".join(DIGITS[number // 62**place % 62] for place in range(9))


def _user(content: str = "Hello") -> Object:
    return {"role": "user", "content": content}


def _leads(message: Object) -> bool:
    return message.get("role") in ("system", "developer")


def _through_template(manner: Manner, calls: int) -> bool:
    return manner.calls == "template" and (manner.one if calls == 1 else manner.several)


def _reads_as(text: str, example: Example, calls: list[Object]) -> bool:
    """Whether a completion says the gold answer to the strict reading, and nothing else."""
    if not calls:
        return text.endswith(content_of(example).strip())
    read = parse_calls(text)
    return read is not None and strict_json.equal(
        [{"name": call.name, "arguments": call.arguments} for call in read], calls
    )


def _gold_calls(example: Example) -> list[Object]:
    if example.is_json or not isinstance(example.answer, list):
        return []
    return [{"name": call["name"], "arguments": call["arguments"]} for call in example.answer]


def _whole(tool: Object) -> Object:
    """A tool as templates expect it: OpenAI's wrapper, and a schema of parameters."""
    function = dict(_function(tool))
    function.setdefault("description", "")
    function["parameters"] = function.get("parameters") or {"type": "object", "properties": {}}
    return {"type": "function", "function": function}


def _function(tool: Object) -> Object:
    function = tool.get("function", tool)
    return function if isinstance(function, dict) else tool


def _is_flat(parameters: Object) -> bool:
    extra = parameters.keys() - {"type", "properties", "required", "additionalProperties"}
    properties = parameters.get("properties", {})
    return (
        not extra
        and parameters.get("additionalProperties", False) is False
        and set(parameters.get("required", [])) == set(properties)
    )


def _history_call(call: object) -> Object:
    """A call of the history; its arguments as an object where they are JSON.

    Raises:
        RenderError: it names no function.
    """
    function = _function(call) if isinstance(call, dict) else {}
    if not isinstance(function.get("name"), str):
        raise RenderError("a call of its history names no function; mend messages[].tool_calls")
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except ValueError:
            pass  # a call of the history that is no JSON stays the text that it was
    return {"name": function["name"], "arguments": arguments}


def _without_system(made: list[Object]) -> list[Object]:
    """The turns with every system message at the start of the user's turn that follows it."""
    result: list[Object] = []
    waiting: list[str] = []
    for turn in made:
        if turn["role"] == "system":
            waiting.append(turn["content"])
        elif turn["role"] == "user" and waiting:
            result.append(turn | {"content": "\n\n".join([*waiting, turn["content"]])})
            waiting = []
        else:
            result.append(turn)
    return [*result, _user("\n\n".join(waiting))] if waiting else result


def _alternating(made: Iterable[Object]) -> list[Object]:
    """The turns with neighbours of one role made one, for templates that take user and assistant by turns only."""
    result: list[Object] = []
    for turn in made:
        last = result[-1] if result else None
        plain = last is not None and "tool_calls" not in turn and "tool_calls" not in last
        if last is not None and plain and turn["role"] == last["role"] in ("user", "assistant"):
            result[-1] = last | {"content": f"{last['content']}\n\n{turn['content']}"}
        else:
            result.append(turn)
    return result


def _spaced(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
