"""Field by field: what each contender answered beside what was right."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fledgling import strict_json
from fledgling.tracks.assignment import best

State = Literal["same", "different", "missing", "extra", "absent"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One contender's value of one field; `state` compares it with gold ("absent": neither has the field)."""

    state: State
    value: Any = None


@dataclass(frozen=True, slots=True)
class Line:
    """One field: its path, the accepted values of gold (empty: gold has no such field), a cell a contender."""

    path: str
    gold: tuple[Any, ...]
    optional: bool
    cells: dict[str, Cell]

    @property
    def agreed(self) -> bool:
        """Whether every contender that has something to say here says what gold says."""
        return all(cell.state in ("same", "absent") for cell in self.cells.values())


def leaves(value: Any) -> dict[str, Any]:
    """{path: value} of every scalar, empty object and empty list inside a JSON value, in its order.

    Keys are joined by dots and quoted as JSON where they hold anything but letters, digits, - and _;
    list items are [0], [1] …; a value that is itself a leaf has the path "". Any depth.
    """
    found: dict[str, Any] = {}
    stack: list[tuple[str, Any]] = [("", value)]
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


def structured(gold: Any, answers: Mapping[str, Any]) -> list[Line]:
    """The fields of gold, then those that only contenders have.

    `answers` maps each contender with a readable reply to its value; a contender without one is left out.
    """
    right = {path: (value,) for path, value in leaves(gold).items()}
    return list(_lines(right, frozenset(), {name: leaves(value) for name, value in answers.items()}))


def toolcall(
    gold: Sequence[Mapping[str, Any]], answers: Mapping[str, Any], allowed: Sequence[Mapping[str, Any]] | None = None
) -> list[Line]:
    """The same for lists of calls {"name", "arguments"}.

    Each contender's calls stand beside the gold calls that they resemble most, by the assignment that agrees
    in most names and arguments, so that the order of calls makes no difference. With `allowed`
    (one {"name", "arguments": {argument: accepted values}} a gold call) an argument may have several
    right values, and "" among them means that it may be left out.
    """
    right: dict[str, tuple[Any, ...]] = {}
    optional: set[str] = set()
    expected = [_expected(call) for call in allowed] if allowed else [_fields(call) for call in gold]
    for index, fields in enumerate(expected):
        for path, accepted in fields.items():
            if path and allowed and "" in [item for item in accepted if isinstance(item, str)]:
                optional.add(_at(index, path))
                accepted = tuple(item for item in accepted if item != "") or ("",)
            right[_at(index, path)] = accepted
    found: dict[str, dict[str, Any]] = {}
    for name, calls in answers.items():
        given = [_given(call, whole=bool(allowed)) for call in calls]
        found[name] = {
            _at(place, path): value
            for place, fields in zip(_places(expected, given), given, strict=True)
            for path, value in fields.items()
        }
    lines = list(_lines(right, optional, found))
    return sorted(lines, key=lambda line: int(line.path.partition(".")[0].removeprefix("call ")))


def _at(index: int, path: str) -> str:
    return f"call {index + 1}.{path}" if path else f"call {index + 1}"


def _fields(call: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    return {path: (value,) for path, value in _given(call, whole=False).items()}


def _expected(call: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    return {"": (call["name"],)} | {
        _key(key): tuple(values) if isinstance(values, list) else (values,) for key, values in call["arguments"].items()
    }


def _given(call: Mapping[str, Any], *, whole: bool) -> dict[str, Any]:
    arguments = call.get("arguments")
    if not isinstance(arguments, dict):
        return {"": call.get("name"), "arguments": arguments}
    inner = {_key(key): value for key, value in arguments.items()} if whole or not arguments else leaves(arguments)
    return {"": call.get("name")} | inner


def _places(expected: Sequence[Mapping[str, tuple[Any, ...]]], given: Sequence[Mapping[str, Any]]) -> list[int]:
    """For each given call the index of its gold call; calls that gold lacks are numbered after the last one."""
    place = dict(best(given, expected, _alike))
    spare = iter(range(len(expected), len(expected) + len(given)))
    return [place[here] if here in place else next(spare) for here in range(len(given))]


def _alike(call: Mapping[str, Any], fields: Mapping[str, tuple[Any, ...]]) -> int:
    shared = sum(path in fields and _accepted(fields[path], call[path]) for path in call if path)
    return shared + _accepted(fields[""], call[""]) * (1 + len(call))


def _lines(
    right: Mapping[str, tuple[Any, ...]], optional: frozenset[str] | set[str], found: Mapping[str, Mapping[str, Any]]
) -> Iterator[Line]:
    paths = dict.fromkeys(right) | {path: None for fields in found.values() for path in fields}
    for path in paths:
        accepted = right.get(path, ())
        cells = {name: _cell(path, accepted, path in optional, fields) for name, fields in found.items()}
        yield Line(path, accepted, path in optional, cells)


def _cell(path: str, accepted: tuple[Any, ...], may_be_absent: bool, fields: Mapping[str, Any]) -> Cell:
    if path not in fields:
        return Cell("missing" if accepted and not may_be_absent else "absent")
    if not accepted:
        return Cell("extra", fields[path])
    return Cell("same" if _accepted(accepted, fields[path]) else "different", fields[path])


def _accepted(accepted: tuple[Any, ...], value: Any) -> bool:
    return any(strict_json.equal(item, value) for item in accepted)
