"""How often a validator may come to one part of a value, by the schema alone, before it is asked.

References let a small schema demand exponential work: `a: {allOf: [{$ref: b}, {$ref: b}]}`, and so on, doubles with
every step, and a recursive `anyOf` with every level of the value. What is counted here is an upper bound of the visits
to a single part of a value, by the depth of that part; times the parts of a value it bounds the whole validation.
"""

from collections.abc import Iterator

from fledgling import strict_json

Node = dict[str, object]

WORK = 2_000_000  # parts of a schema times levels of a value that are looked at; beyond, the bound is LIMIT
LIMIT = 1 << 40  # a bound that no validation is allowed to need
FEW = 8  # branches up to which a schema without references is not looked at more closely
_TOGETHER = ("allOf", "anyOf", "oneOf")
_IN_PLACE = ("not", "if", "then", "else")
_IN_PLACE_BY_NAME = ("dependentSchemas", "dependencies")
_BY_NAME = (*_IN_PLACE_BY_NAME, "patternProperties")
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_VALUES_TOO = ("additionalProperties", "unevaluatedProperties", "propertyNames")
_ITEMS_TOO = ("additionalItems", "contains", "unevaluatedItems")


def visits(schema: object) -> list[int]:
    """The most visits to any part of a value that is at most so deep: [for depth 0, 1, …], the last one for all deeper.

    A reference in place to what it stands in counts once, as a validator ends such a loop.
    """
    nodes = list(_nodes(schema))
    if not isinstance(schema, dict) or not nodes:
        return [1]
    if not any(key in node for node in nodes for key in _REFERENCES):
        branches = sum(_branches(node) for node in nodes)
        if branches <= FEW:  # nearly every schema: nothing can multiply
            return [1 + branches]
    number = {id(node): at for at, node in enumerate(nodes)}
    resolve = _Resolver(schema, nodes)
    in_place = [[number[id(child)] for child in _in_place(node, resolve) if id(child) in number] for node in nodes]
    inside = [_inside(node, number) for node in nodes]
    order = _callees_first(in_place)
    counts: list[int] = []
    below: list[int] | None = None
    most: list[int] = []
    for level in range(strict_json.MAX_DEPTH + 1):
        if level * len(nodes) > WORK:
            return [*most, LIMIT]
        counts = [0] * len(nodes)
        for at in order:
            own = 1 if below is None else inside[at].most(below)
            counts[at] = min(LIMIT, own + sum(counts[child] for child in in_place[at]))
        if counts == below and len(most) > 1:
            break
        most.append(max(most[-1] if most else 0, counts[0]))
        below = counts
    return most


def _branches(node: Node) -> int:
    """How many parts of a schema look at the same value as the one that they stand in, or at its members too."""
    together = sum(len(value) for key in _TOGETHER if isinstance(value := node.get(key), list))
    named = sum(len(value) for key in _BY_NAME if isinstance(value := node.get(key), dict))
    return together + named + sum(key in node for key in (*_IN_PLACE, *_VALUES_TOO, *_ITEMS_TOO))


class _Inside:
    """The parts of a schema that look at the members of a value."""

    def __init__(self, named: list[int], every_value: list[int], placed: list[int], every_item: list[int]):
        self.named, self.every_value, self.placed, self.every_item = named, every_value, placed, every_item

    def most(self, counts: list[int]) -> int:
        """Visits to one member: of an object one property's schema at most, or of an array one position's."""
        value = max((counts[at] for at in self.named), default=0) + sum(counts[at] for at in self.every_value)
        item = max((counts[at] for at in self.placed), default=0) + sum(counts[at] for at in self.every_item)
        return max(value, item)


def _inside(node: Node, number: dict[int, int]) -> _Inside:
    def known(*values: object) -> list[int]:
        return [number[id(value)] for value in values if isinstance(value, dict) and id(value) in number]

    def by_name(key: str) -> list[object]:
        value = node.get(key)
        return list(value.values()) if isinstance(value, dict) else []

    items = node.get("items")
    prefix = node.get("prefixItems")
    placed = [*(items if isinstance(items, list) else []), *(prefix if isinstance(prefix, list) else [])]
    return _Inside(
        known(*by_name("properties")),
        known(*by_name("patternProperties"), *(node.get(key) for key in _VALUES_TOO)),
        known(*placed),
        known(items, *(node.get(key) for key in _ITEMS_TOO)),
    )


def _in_place(node: Node, resolve: "_Resolver") -> Iterator[Node]:
    for key in _TOGETHER:
        value = node.get(key)
        if isinstance(value, list):
            yield from (item for item in value if isinstance(item, dict))
    for key in _IN_PLACE:
        value = node.get(key)
        if isinstance(value, dict):
            yield value
    for key in _IN_PLACE_BY_NAME:
        value = node.get(key)
        if isinstance(value, dict):
            yield from (item for item in value.values() if isinstance(item, dict))
    for key in _REFERENCES:
        value = node.get(key)
        if isinstance(value, str):
            yield from resolve(value)


class _Resolver:
    """What a reference may name, each place that it might be where several could be meant."""

    def __init__(self, root: Node, nodes: list[Node]):
        self.resources = [root, *(node for node in nodes if isinstance(node.get("$id", node.get("id")), str))]
        self.anchors: dict[str, list[Node]] = {}
        for node in nodes:
            for key in ("$anchor", "$dynamicAnchor"):
                if isinstance(name := node.get(key), str):
                    self.anchors.setdefault(name, []).append(node)
        self.known: dict[str, list[Node]] = {}

    def __call__(self, reference: str) -> list[Node]:
        if reference not in self.known:
            self.known[reference] = self._find(reference)
        return self.known[reference]

    def _find(self, reference: str) -> list[Node]:
        place, _, fragment = reference.partition("#")
        if fragment and not fragment.startswith("/"):
            return self.anchors.get(fragment, [])
        resources = self.resources[:1] if not place and len(self.resources) == 1 else self.resources
        if place:
            name = place.rstrip("/").rpartition("/")[2]
            named = [node for node in resources if name and name in str(node.get("$id", node.get("id")))]
            resources = named or resources[1:]
        found = [_at(resource, fragment) for resource in resources]
        unique = {id(node): node for node in found if node is not None}
        return list(unique.values())


def _at(root: Node, pointer: str) -> Node | None:
    value: object = root
    for step in pointer.split("/")[1:]:
        step = step.replace("~1", "/").replace("~0", "~").replace("%25", "%").replace("%22", '"')
        if isinstance(value, list) and step.isdecimal() and len(step) < 9:
            value = value[int(step)] if int(step) < len(value) else None
        else:
            value = value.get(step) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else None


def _nodes(schema: object) -> Iterator[Node]:
    """Every object inside a schema, itself first."""
    stack = [schema]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            yield node
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)


def _callees_first(edges: list[list[int]]) -> list[int]:
    """Every number after those that it leads to, loops cut where they close; edges that close one are removed."""
    order: list[int] = []
    state = [0] * len(edges)  # 0 new, 1 on the path, 2 done
    for start in range(len(edges)):
        if state[start]:
            continue
        state[start] = 1
        path = [(start, iter(list(edges[start])))]
        while path:
            at, children = path[-1]
            child = next(children, None)
            if child is None:
                state[at] = 2
                order.append(at)
                path.pop()
            elif state[child] == 1:
                edges[at] = [other for other in edges[at] if other != child]
            elif state[child] == 0:
                state[child] = 1
                path.append((child, iter(list(edges[child]))))
    return order
