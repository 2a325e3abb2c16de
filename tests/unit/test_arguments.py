"""Mistakes of a Snakemake command line end with what to type, not with a traceback."""

import os

import pytest

from snakemake_logger_plugin_fledgling.arguments import check


@pytest.fixture
def typed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("seed: 8\n")

    def run(line):
        check(["/venv/bin/snakemake", *line.split()])
        return capsys.readouterr().err

    def refused(line):
        with pytest.raises(SystemExit) as ended:
            run(line)
        return ended.value.code, capsys.readouterr().err

    run.refused = refused
    return run


@pytest.mark.parametrize(
    "line",
    [
        "-n",
        "-n --configfile mine.yaml -- results/compare/a.json",
        "--configfile mine.yaml --cores 2 results/compare/a.json",
        "--config seed=8 -- all",
        "-n -- no-such.yaml",
    ],
)
def test_what_is_right_passes(typed, line):
    assert typed(line) == ""


def test_a_target_after_files_of_configuration_says_where_the_dashes_go(typed):
    code, said = typed.refused("-n --configfile mine.yaml results/compare/a.json")
    assert code == 2
    assert "type: snakemake -n --configfile mine.yaml -- results/compare/a.json" in said


def test_a_file_behind_config_is_meant_for_configfile(typed):
    code, said = typed.refused("-n --config mine.yaml -- all")
    assert code == 2
    assert "type: snakemake -n --configfile mine.yaml -- all" in said


def test_a_missing_file_is_named(typed, tmp_path):
    code, said = typed.refused("--configfile mine.yaml other.yaml -- all")
    assert code == 3
    assert "other.yaml: no such file" in said
    assert str(tmp_path) in said


def test_bad_yaml_has_its_line(typed, tmp_path):
    (tmp_path / "mine.yaml").write_text("tracks:\n  a:\n   kind: x\n  - y\n")
    code, said = typed.refused("--configfile mine.yaml -- all")
    assert code == 3
    assert "mine.yaml:4:3: not YAML" in said


def test_bytes_that_are_no_text_are_named(typed, tmp_path):
    (tmp_path / "mine.yaml").write_bytes(b"seed: \xff\n")
    assert "mine.yaml: not UTF-8 at byte 6" in typed.refused("--configfile mine.yaml")[1]


def test_other_programs_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check(["/venv/bin/pytest", "--configfile", "no-such.yaml"])
    check([])


@pytest.mark.parametrize("line", ["-n all", "--cores 2 --directory . -- all", "--directory=. all"])
def test_a_folder_that_cannot_be_written_is_named_with_a_way_out(typed, tmp_path, monkeypatch, line):
    monkeypatch.setattr(os, "access", lambda place, mode: False)
    code, said = typed.refused(line)
    assert code == 3
    assert f"error: {tmp_path}" in said
    assert f"type with a folder of your own for DIR: snakemake --directory DIR {line}" in said
    assert typed("--help") == ""


def test_the_folder_of_a_run_is_the_one_that_counts(typed, tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    monkeypatch.setattr(os, "access", lambda place, mode: place == tmp_path / "mine")
    assert typed("--directory mine all") == ""
    assert typed("-d mine all") == ""
