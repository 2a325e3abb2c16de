"""Field by field: what each contender answered beside what was right, judged as the scorer judges."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from fledgling import strict_json
from fledgling.artefacts import Json, JsonObject
from fledgling.tracks.assignment import best
from fledgling.tracks.bfcl import allowed_of, ast_match, mismatch
from fledgling.tracks.declared import UNKNOWN, Declared, declared
from fledgling.tracks.dialects import Call

State = Literal["same", "alike", "different", "missing", "extra", "absent"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One contender's value of one field; `state` compares it with gold.

    same: equal. alike: another text that the scorer counts as right. absent: left out, as it may be.
    """

    state: State
    value: Json = None


@dataclass(frozen=True, slots=True)
class Line:
    """One field: its path, the accepted values of gold (empty: gold has no such field), a cell a contender."""

    path: str
    gold: tuple[Json, ...]
    optional: bool
    cells: dict[str, Cell]

    @property
    def agreed(self) -> bool:
        """Whether every contender that has something to say here says what gold says."""
        return all(cell.state in ("same", "absent") for cell in self.cells.values())


def leaves(value: Json) -> dict[str, Json]:
    """{path: value} of every scalar, empty object and empty list inside a JSON value, in its order.

    Keys are joined by dots and quoted as JSON where they hold anything but letters, digits, - and _;
    list items are [0], [1] …; a value that is itself a leaf has the path "". Any depth.
    """
    found: dict[str, Json] = {}
    stack: list[tuple[str, Json]] = [("", value)]
    while stack:
        path, item = stack.pop()
        if isinstance(item, dict) and item:
            stack.extend(reversed([(f"{path}.{_key(key)}" if path else _key(key), item[key]) for key in item]))
        elif isinstance(item, list) and item:
            stack.extend(reversed([(f"{path}[{index}]", inner) for index, inner in enumerate(item)]))
        else:
            found[path] = item
    return found


def _key(key: str) -> str:
    return key if key and key.replace("-", "_").replace("_", "a").isalnum() else json.dumps(key, ensure_ascii=False)


def structured(gold: Json, answers: Mapping[str, Json]) -> list[Line]:
    """The fields of gold, then those that only contenders have.

    `answers` maps each contender with a readable reply to its value; a contender without one is left out.
    """
    return list(_by_leaf("", gold, answers, frozenset(), tidy=False))


def toolcall(
    gold: Sequence[JsonObject],
    answers: Mapping[str, Sequence[JsonObject]],
    allowed: Sequence[JsonObject] | None = None,
    tools: Sequence[JsonObject] | None = None,
) -> list[Line]:
    """The same for lists of calls {"name", "arguments"}; `allowed` and `tools` are those of the row.

    Each contender's calls stand beside the expected calls that they resemble most, by the assignment that agrees
    in most names and arguments, so that the order of calls makes no difference. Whether an argument is right is
    asked of `ast_match`, one argument at a time, so nested alternatives and case count here as in the scores.
    """
    rules = _rules(gold, allowed, tools)
    given: dict[str, list[tuple[int, JsonObject]]] = {}
    for name, calls in answers.items():
        given[name] = list(zip(_places(rules, calls), calls, strict=True))
    last = max([len(rules), *(place + 1 for pairs in given.values() for place, _ in pairs)])
    lines: list[Line] = []
    for place in range(last):
        mine = {name: next((call for at, call in pairs if at == place), None) for name, pairs in given.items()}
        lines += _call_lines(f"call {place + 1}", rules[place] if place < len(rules) else None, mine)
    return lines


@dataclass(frozen=True, slots=True)
class _Rule:
    """One expected call: its name, the values that each argument may have, gold's own call where there is one."""

    name: str
    options: dict[str, list[Json]]
    gold: Mapping[str, Json] | None
    tool: Declared

    def accepts(self, argument: str, value: Json) -> bool:
        """Whether the scorer counts this argument as right."""
        expected = {"name": self.name, "arguments": {argument: self.options[argument]}}
        return mismatch(Call(self.name, {argument: value}), expected, self.tool) is None

    def state(self, argument: str, arguments: Mapping[str, Json]) -> State:
        options = self.options[argument]
        if argument not in arguments:
            return "absent" if "" in [item for item in options if isinstance(item, str)] else "missing"
        value = arguments[argument]
        if self.gold and argument in self.gold and _written(value) == _written(self.gold[argument]):
            return "same"  # gold never differs from itself, whatever the row's own rules say of it
        if not self.accepts(argument, value):
            return "different"
        return (
            "same" if any(strict_json.equal(value, option) for option in [*options, self.right(argument)]) else "alike"
        )

    def right(self, argument: str) -> Json:
        """The value to show first: gold's own, else the first that is accepted."""
        if self.gold and argument in self.gold:
            return self.gold[argument]
        return next(iter(self.options[argument]), None)


def _rules(
    gold: Sequence[JsonObject], allowed: Sequence[JsonObject] | None, tools: Sequence[JsonObject] | None
) -> list[_Rule]:
    expected: list[JsonObject] = allowed_of(list(gold)) if allowed is None else list(allowed)
    whole = len(gold) == len(expected) and all(
        mine["name"] == theirs["name"] for mine, theirs in zip(gold, expected, strict=False)
    )
    return [
        _Rule(
            str(call["name"]),
            {key: values if isinstance(values, list) else [values] for key, values in _arguments(call).items()},
            _arguments(gold[place]) if whole else None,
            _without_required(str(call["name"]), tools),
        )
        for place, call in enumerate(expected)
    ]


def _without_required(name: str, tools: Sequence[JsonObject] | None) -> Declared:
    """What one tool declares, nothing of it required, so that one argument alone can be judged."""
    for tool in tools or ():
        function = tool.get("function")
        if isinstance(function, dict) and function.get("name") == name:
            return replace(declared(function.get("parameters")), required=frozenset())
    return UNKNOWN


def _places(rules: Sequence[_Rule], calls: Sequence[JsonObject]) -> list[int]:
    """For each given call the index of its expected call; calls too many are numbered after the last one."""
    place = dict(best(calls, rules, _alike))
    spare = iter(range(len(rules), len(rules) + len(calls)))
    return [place[here] if here in place else next(spare) for here in range(len(calls))]


def _alike(call: JsonObject, rule: _Rule) -> int:
    arguments = _arguments(call)
    shared = sum(key in rule.options and rule.state(key, arguments) in ("same", "alike") for key in arguments)
    return shared + (call.get("name") == rule.name) * (2 + len(arguments))


def _arguments(call: JsonObject) -> JsonObject:
    arguments = call.get("arguments")
    return arguments if isinstance(arguments, dict) else {"arguments": arguments}


def _call_lines(path: str, rule: _Rule | None, calls: Mapping[str, JsonObject | None]) -> Iterator[Line]:
    names = {name: _named(rule, call) for name, call in calls.items()}
    yield Line(path, (rule.name,) if rule else (), False, names)
    keys = dict.fromkeys(
        [*(rule.options if rule else ()), *(key for call in calls.values() if call for key in _arguments(call))]
    )
    for key in keys:
        yield from _argument_lines(f"{path}.{_key(key)}", key, rule, calls)


def _named(rule: _Rule | None, call: JsonObject | None) -> Cell:
    if call is None:
        return Cell("missing" if rule else "absent")
    if rule is None:
        return Cell("extra", call.get("name"))
    return Cell("same" if call.get("name") == rule.name else "different", call.get("name"))


def _argument_lines(path: str, key: str, rule: _Rule | None, calls: Mapping[str, JsonObject | None]) -> Iterator[Line]:
    if rule is None or key not in rule.options:
        yield Line(path, (), False, {name: _unexpected(key, call) for name, call in calls.items()})
        return
    states = {name: rule.state(key, _arguments(call) if call else {}) for name, call in calls.items()}
    said = {name: _arguments(call)[key] for name, call in calls.items() if call and key in _arguments(call)}
    whole = rule.right(key)
    parted = any(state == "different" for state in states.values())
    if parted and len(rule.options[key]) == 1 and isinstance(whole, dict | list) and whole:
        # One right value with an inside: say where in it they part.
        right = frozenset(name for name, state in states.items() if state != "different")
        lines = list(_by_leaf(path, whole, said, right, tidy=True))
        # The scorer refuses the whole: where all leaves look alright, it is the letter that counts this deep.
        wrong = {
            name
            for name in said
            if name not in right and all(line.cells[name].state in ("same", "alike", "absent") for line in lines)
        }
        for line in lines:
            strict = {
                name: Cell("different", cell.value)
                for name, cell in line.cells.items()
                if name in wrong and cell.state != "absent" and [_written(cell.value)] != [*map(_written, line.gold)]
            }
            yield Line(line.path, line.gold, line.optional, line.cells | strict)
        return
    options = [item for item in rule.options[key] if item != ""]
    optional = len(options) < len(rule.options[key]) and bool(options)
    shown = options if len(options) > 1 else [whole]
    yield Line(path, tuple(shown), optional, {name: Cell(state, said.get(name)) for name, state in states.items()})


def _unexpected(key: str, call: JsonObject | None) -> Cell:
    return Cell("extra", _arguments(call)[key]) if call and key in _arguments(call) else Cell("absent")


def _by_leaf(
    base: str, gold: Json, answers: Mapping[str, Json], right: frozenset[str], *, tidy: bool
) -> Iterator[Line]:
    """A line a leaf; those of contenders in `right` count as right whatever they say, `tidy` forgives case."""
    wanted, found = leaves(gold), {name: leaves(value) for name, value in answers.items()}
    for path in dict.fromkeys([*wanted, *(path for fields in found.values() for path in fields)]):
        cells = {}
        for name, fields in found.items():
            if path not in fields:
                cells[name] = Cell("missing" if path in wanted and name not in right else "absent")
            elif path in wanted and strict_json.equal(wanted[path], fields[path]):
                cells[name] = Cell("same", fields[path])
            elif name in right or (tidy and path in wanted and _forgiven(wanted[path], fields[path])):
                cells[name] = Cell("alike", fields[path])
            else:
                cells[name] = Cell("different" if path in wanted else "extra", fields[path])
        here = base + (path if path.startswith("[") or not base or not path else f".{path}")
        yield Line(here, (wanted[path],) if path in wanted else (), False, cells)


def _written(value: Json) -> str:
    """A value as JSON: 7 and 7.0 are equal and not the same."""
    return json.dumps(value, sort_keys=True)


def _forgiven(gold: Json, value: Json) -> bool:
    return ast_match([Call("f", {"x": value})], [{"name": "f", "arguments": {"x": [gold]}}], None)
