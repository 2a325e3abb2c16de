"""The page itself: the view poured into the template, with everything it needs inside one file."""

import base64
import functools
import hashlib
from importlib import resources

import jinja2
from markupsafe import Markup

from fledgling.report.load import Inputs
from fledgling.report.sections.answer import View
from fledgling.report.view import page


def render(inputs: Inputs) -> str:
    """The report of one track as HTML; the same inputs give the same bytes.

    Raises:
        DataError: the files of the contenders do not hold the same rows.
    """
    return html(page(inputs))


def html(view: View) -> str:
    """A view as HTML: all text is escaped; markup are the style sheet, the script and the pictures.

    The content security policy names both by digest: whatever else a page might be made to hold does not run.
    """
    css, script = _file("report.css"), _file("report.js")
    return (
        _environment()
        .get_template("report.html")
        .render(view, css=Markup(css), script=Markup(script), css_hash=_source(css), script_hash=_source(script))
    )


def _source(code: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}"


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
