"""Digests of what code means, so that a rule re-runs when its meaning changes and not when a comment does."""

import ast
import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parent.parent
# What these decide is how a job runs and reports, or reaches a rule as its settings; editing them re-runs nothing.
PLUMBING = frozenset(
    [PACKAGE / name for name in ("artefacts.py", "cli.py", "config.py", "contenders.py", "errors.py", "gpus.py")]
    + [
        PACKAGE / "forecast" / "enough.py",
        PACKAGE / "locks.py",
        PACKAGE / "slurm.py",
        PACKAGE / "progress.py",
        PACKAGE / "redaction.py",
        PACKAGE / "seals.py",
        PACKAGE / "selection.py",
        PACKAGE / "command" / "main.py",
        *(PACKAGE / "graph").glob("*.py"),
    ]
)


def digests(script: str | Path, root: str | Path = ".") -> dict[str, str]:
    """{file: digest} of a script and of every fledgling module that it imports, directly or not.

    Files are named relative to `root` (modules as fledgling/…), sorted. Imports are read from the
    syntax tree, those inside functions too; nothing is executed. A digest changes with the syntax
    tree, docstrings aside: comments, formatting and docstrings leave it as it is.
    """
    read: dict[Path, str] = {}
    waiting = [Path(root, script).resolve()]
    while waiting:
        file = waiting.pop()
        if file not in read and file not in PLUMBING:
            read[file], imported = _read(file)
            waiting.extend(imported)
    base = Path(root).resolve()
    return dict(sorted((_name(file, base), digest) for file, digest in read.items()))


@functools.cache
def _name(file: Path, root: Path) -> str:
    if file.is_relative_to(PACKAGE):
        return f"fledgling/{file.relative_to(PACKAGE).as_posix()}"
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else file.as_posix()


@functools.cache
def _read(file: Path) -> tuple[str, tuple[Path, ...]]:
    parts: list[str] = []
    imports: list[ast.Import | ast.ImportFrom] = []
    _write(ast.parse(file.read_bytes(), filename=str(file)), parts, imports)
    digest = hashlib.sha256(" ".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return digest, tuple(path for node in imports for path in _imports(node, file))


def _write(node: ast.AST, parts: list[str], imports: list[ast.Import | ast.ImportFrom]) -> None:
    """Append the tree in one pass, for ast.dump takes most of a dry run's time; positions and contexts say nothing."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        imports.append(node)
    parts.append(node.__class__.__name__)
    for name in node._fields:
        value = getattr(node, name, None)
        if isinstance(value, list):
            parts.append("[")
            for item in value:
                if isinstance(item, ast.AST):
                    if not _is_text(item):
                        _write(item, parts, imports)
                else:
                    parts.append(repr(item))
            parts.append("]")
        elif isinstance(value, ast.expr_context):
            continue
        elif isinstance(value, ast.AST):
            _write(value, parts, imports)
        else:
            parts.append(repr(value))


def _is_text(node: ast.AST) -> bool:
    """Whether a statement is nothing but a text: a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _imports(node: ast.Import | ast.ImportFrom, file: Path) -> Iterator[Path]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield from _module(alias.name)
    else:
        module = node.module or ""
        if node.level:
            package = file.parents[node.level - 1].relative_to(PACKAGE.parent).parts
            module = ".".join([*package, module]) if module else ".".join(package)
        for (
            alias
        ) in node.names:  # `from fledgling import files` names a module, `from fledgling.files import x` does not
            yield from _module(f"{module}.{alias.name}") or _module(module)


@functools.cache
def _module(name: str) -> list[Path]:
    """The files that importing a dotted name runs: the module and its packages; [] if it is no fledgling module."""
    parts = name.split(".")
    if parts[0] != PACKAGE.name:
        return []
    base = PACKAGE.joinpath(*parts[1:])
    own = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    if not own.is_file():
        return []
    packages = [PACKAGE.joinpath(*parts[1:depth]) / "__init__.py" for depth in range(1, len(parts))]
    return [own, *(path for path in packages if path.is_file())]
