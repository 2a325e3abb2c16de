import pytest

from fledgling.graph import digests as code


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A small package in place of fledgling; digests are not remembered between edits."""
    folder = tmp_path / "src" / "fledgling"
    (folder / "data").mkdir(parents=True)
    files = {
        "__init__.py": "",
        "errors.py": "X = 1",
        "files.py": "def read(): return 1",
        "stats.py": "import fledgling.files",
        "data/__init__.py": "",
        "data/split.py": "from fledgling.files import read\nfrom . import leaks",
        "data/leaks.py": "L = 2",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    (tmp_path / "script.py").write_text("def main():\n    from fledgling.data import split\n")
    monkeypatch.setattr(code, "PACKAGE", folder)
    monkeypatch.setattr(code, "PLUMBING", frozenset({folder / "errors.py"}))
    for cached in ("_read", "_name", "_module"):
        monkeypatch.setattr(code, cached, getattr(code, cached).__wrapped__)
    return folder


def of(package):
    return code.digests("script.py", root=package.parents[1])


def test_imports_are_followed(package):
    assert set(of(package)) == {
        "script.py",
        "fledgling/__init__.py",
        "fledgling/data/__init__.py",
        "fledgling/data/split.py",
        "fledgling/data/leaks.py",
        "fledgling/files.py",
    }


def test_only_meaning_counts(package):
    before = of(package)
    (package / "files.py").write_text('"""Doc."""\n# comment\ndef read():\n    """Doc."""\n    return 1\n')
    assert of(package) == before
    (package / "files.py").write_text("def read(): return 2")
    after = of(package)
    assert {name for name in before if before[name] != after[name]} == {"fledgling/files.py"}


def test_plumbing_does_not_count(package):
    before = of(package)
    (package / "leaks.py").write_text("")
    (package / "data" / "leaks.py").write_text("from fledgling.errors import X\nL = 2")
    assert "fledgling/errors.py" not in of(package)
    assert of(package) != before


def test_every_script_of_the_project_is_read(root):
    for script in sorted((root / "scripts").glob("*.py")):
        found = code.digests(script, root=root)
        assert f"scripts/{script.name}" in found
        assert "fledgling/files.py" in found or "fledgling/records.py" in found, script


@pytest.mark.parametrize("script", ["prepare", "ask", "answer", "floor", "train", "select_adapter"])
def test_answers_do_not_depend_on_scoring(root, script):
    """So that an edited metric scores again and asks nobody again."""
    scoring = {
        "fledgling/score.py",
        "fledgling/stats.py",
        "fledgling/decision/comparison.py",
        "fledgling/decision/verdict.py",
        "fledgling/tracks/toolcall.py",
        "fledgling/tracks/structured.py",
    }
    assert not scoring & set(code.digests(root / "scripts" / f"{script}.py", root=root))
