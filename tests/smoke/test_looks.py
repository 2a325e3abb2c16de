"""The teacher's answers to test bought in looks, in the real graph on the embedded default."""

import yaml

from .conftest import Project

TRACK = "structured"


def configure(project: Project, looks: int | None) -> None:
    path = project.folder / "config/config.yaml"
    config = yaml.safe_load(path.read_text())
    config["tracks"] = {TRACK: config["tracks"][TRACK]}
    config["teacher"] |= {"looks": looks}
    path.write_text(yaml.safe_dump(config, sort_keys=False))


def test_looks_buy_no_more_than_the_verdict_needs(copied: Project) -> None:
    """The same contender as with all rows, on fewer; everybody is judged on the rows that were bought; and back again."""
    results, before = copied.folder / "results", copied.read(f"verdict/{TRACK}.json")
    report = f"results/report/{TRACK}.html"
    configure(copied, 60)
    copied.build(report)
    verdict, sealed = copied.read(f"verdict/{TRACK}.json"), copied.read(f"predictions/{TRACK}/teacher.json")
    bought = sealed["bought"]
    rows = copied.read(f"data/{TRACK}/datasheet.json")["splits"]["test"]["rows"]
    assert (verdict["deploy"], verdict["bought"]) == (before["deploy"], bought)
    assert bought["rows"] < bought["of"] == rows
    names = [rung["name"] for rung in verdict["ladder"]]
    for name in ["teacher", *names]:
        assert copied.read(f"metrics/{TRACK}/{name}.json")["n"] == bought["rows"] == verdict["n"]
    assert len(copied.rows(f"predictions/{TRACK}/teacher.jsonl")) == bought["rows"]
    assert len(copied.rows(f"predictions/{TRACK}/{names[0]}.jsonl")) == rows
    assert f"The teacher was asked {bought['rows']} of {rows} test rows" in verdict["statement"]
    assert (
        f"The teacher was asked {bought['rows']} of {rows} test rows" in (results / f"report/{TRACK}.html").read_text()
    )
    assert "Nothing to be done" in copied.build("--dry-run", report)

    configure(copied, None)
    copied.build(report)
    after = copied.read(f"verdict/{TRACK}.json")
    assert "bought" not in after
    assert (after["n"], after["deploy"]) == (rows, before["deploy"])
