"""The page itself: the view poured into the template, with everything it needs inside one file."""

import functools
from collections.abc import Mapping
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from fledgling.report.load import Inputs
from fledgling.report.view import page


def render(inputs: Inputs) -> str:
    """The report of one track as HTML; the same inputs give the same bytes.

    Raises:
        DataError: the files of the contenders do not hold the same rows.
    """
    return html(page(inputs))


def html(view: Mapping[str, Any]) -> str:
    """A view as HTML: all text is escaped; only the style sheet and the pictures are markup."""
    return _environment().get_template("report.html").render(view, css=Markup(_file("report.css")))


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(_file),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _file(name: str) -> str:
    return (resources.files("fledgling.report") / "templates" / name).read_text(encoding="utf-8")
