"""What the slm reads and what it should write: one example in the model's own chat template and tool dialect."""

import json
from typing import Any, Literal

from fledgling.errors import ConfigError, DataError
from fledgling.prompting import turns as prompting
from fledgling.records import Example

Dialect = Literal["phi4", "native"]

NO_CALL = "No tool is needed."
SYSTEM = "You are a helpful assistant with some tools."  # the sentence of Phi-4-mini's model card


def dialect_of(tokenizer: Any, choice: str = "auto") -> Dialect:
    """How this tokenizer's chat template wants its tools; `choice` other than auto decides it.

    phi4: the template takes tools as text in the system message, between `<|tool|>` markers.
    native: the template takes `tools=`, as those of Qwen and Hermes do.

    Raises:
        ConfigError: there is no chat template, or it has no place for tools.
    """
    if choice == "phi4":
        return "phi4"
    template = tokenizer.chat_template
    if not template:
        raise ConfigError("the checkpoint has no chat template, so it cannot be prompted; take an instruct model")
    text = template if isinstance(template, str) else json.dumps(template)
    if choice == "native":
        return "native"
    return "phi4" if "<|tool|>" in text else "native"


def messages_for(
    example: Example, *, schema: prompting.Place = "none", dialect: Dialect = "phi4"
) -> list[dict[str, Any]]:
    """The chat turns of one example, as the chat template of the dialect renders them.

    phi4: tools are compact JSON text under the system message's `tools` key (a system message is
    put first where there is none), calls in the history are written out as the model writes them,
    and a tool's result becomes a `tool_response` turn. native: the turns in OpenAI form, arguments
    as objects; the tools go to `render`. schema="system" adds the row's JSON Schema to the system
    message.
    """
    turns = [_turn(message, dialect) for message in prompting.messages(example, schema)]
    if example.tools and dialect == "phi4":
        if not turns or turns[0]["role"] != "system":
            turns.insert(0, {"role": "system", "content": SYSTEM})
        turns[0]["tools"] = _compact(definitions(example.tools))
    return turns


def render(tokenizer: Any, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None) -> str:
    """The prompt text, up to and with the marker where the model starts to write.

    It holds every special token it needs: tokenize it with add_special_tokens=False.
    """
    return tokenizer.apply_chat_template(messages, tools=tools, add_generation_prompt=True, tokenize=False)


def prompt(tokenizer: Any, example: Example, *, schema: prompting.Place = "none", dialect: Dialect = "phi4") -> str:
    """The prompt text of one example: its turns, its tools and, if asked, its schema, rendered.

    Raises:
        DataError: the chat template dropped the tools, or refuses the turns; names the row.
    """
    messages = messages_for(example, schema=schema, dialect=dialect)
    try:
        text = render(tokenizer, messages, example.tools if dialect == "native" else None)
    except Exception as error:  # jinja2 raises TemplateError, TypeError and more, by template
        raise DataError(f"row {example.id!r}: the chat template of the slm refuses it ({error})") from error
    for tool in example.tools or []:
        if _function(tool)["name"] not in text:
            raise DataError(
                f"row {example.id!r}: the chat template of the slm drops the tools; set slm.tool_dialect to phi4, "
                "or take a model whose template takes tools"
            )
    return text


def completion(example: Example, dialect: Dialect = "phi4") -> str:
    """What the model should write for one example, without the end-of-turn token.

    Calls in the dialect's own form (a fixed sentence where no call is right), objects as compact
    JSON; keys in gold order.

    Raises:
        DataError: the row has no gold answer (any call would be right), so nothing can be taught.
    """
    if example.answer is None:
        raise DataError(f"row {example.id!r}: it has no gold answer, so it cannot be trained on")
    if example.schema is None and isinstance(example.answer, list):
        return calls_text(example.answer, dialect) if example.answer else NO_CALL
    return _compact(example.answer)


def end_of_turn(tokenizer: Any) -> int:
    """The token that ends the assistant's turn in the chat template, or the tokenizer's own end where it has none.

    It is what training has to teach and what generation has to stop at; the tokenizer's `eos_token`
    is another one in Phi-4-mini, Qwen and others.
    """
    mark = "fledgling"
    turns = [{"role": "user", "content": mark}, {"role": "assistant", "content": mark}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    tail = tokenizer(text.rpartition(mark)[2].strip(), add_special_tokens=False)["input_ids"]
    return tail[0] if tail else tokenizer.eos_token_id


def calls_text(calls: list[dict[str, Any]], dialect: Dialect = "phi4") -> str:
    """Calls ({"name", "arguments"}) as the model writes them."""
    plain = [{"name": call["name"], "arguments": call["arguments"]} for call in calls]
    if dialect == "phi4":
        return f"<|tool_call|>{_compact(plain)}<|/tool_call|>"
    return "\n".join(f"<tool_call>\n{json.dumps(call, ensure_ascii=False)}\n</tool_call>" for call in plain)


def definitions(tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
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


def _function(tool: dict[str, Any]) -> dict[str, Any]:
    return tool.get("function", tool)


def _is_flat(parameters: dict[str, Any]) -> bool:
    extra = parameters.keys() - {"type", "properties", "required", "additionalProperties"}
    properties = parameters.get("properties", {})
    return (
        not extra
        and parameters.get("additionalProperties", False) is False
        and set(parameters.get("required", [])) == set(properties)
    )


def _turn(message: dict[str, Any], dialect: Dialect) -> dict[str, Any]:
    role = "system" if message["role"] == "developer" else message["role"]
    content = _text(message.get("content"))
    calls = [_call(call) for call in message.get("tool_calls") or []]
    if dialect == "phi4":
        if role == "tool":
            return {"role": "tool_response", "content": content}
        return {"role": role, "content": content + (calls_text(calls) if calls else "")}
    turn = {"role": role, "content": content}
    if calls:
        turn["tool_calls"] = [{"type": "function", "function": call} for call in calls]
    for key in ("name", "tool_call_id"):
        if key in message:
            turn[key] = message[key]
    return turn


def _call(call: dict[str, Any]) -> dict[str, Any]:
    function = _function(call)
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            pass  # a call of the history that is no JSON stays the text that it was
    return {"name": function["name"], "arguments": arguments}


def _text(content: Any) -> str:
    if isinstance(content, list):  # OpenAI's content parts
        return "".join(part.get("text", "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
