"""What a request may say: JSON of a known shape, small, and never sent back."""

from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request

from fledgling import strict_json
from fledgling.console.policy import LARGEST_BODY, Refused

DEEPEST = 16


class Body(BaseModel):
    """A body: exact types, no further fields."""

    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)


class Select(Body):
    """POST /api/slm/select."""

    modelId: Annotated[str, Field(min_length=1, max_length=80)]


class Token(Body):
    """POST /api/hf/token."""

    token: Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[\x21-\x7e]+$")]


class Upload(Body):
    """POST /api/hf/upload and /api/hf/files, which lists what an upload would send."""

    repoId: Annotated[str, Field(min_length=1, max_length=200)]
    paths: Annotated[list[Annotated[str, Field(max_length=4096)]], Field(min_length=1, max_length=50)]
    repoType: Literal["model", "dataset"] = "model"
    commitMessage: Annotated[str, Field(min_length=1, max_length=500)] = "Upload with Fledgling"
    branch: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")] | None = None
    pathInRepo: Annotated[str, Field(max_length=200)] | None = None
    private: bool = True
    autoSubdir: bool = False


class Start(Body):
    """POST /api/runs: what to build, and the price that was shown for it."""

    targets: Annotated[list[Annotated[str, Field(min_length=1, max_length=300)]], Field(max_length=50)] = []
    confirm: Annotated[str, Field(max_length=64)] = ""


T = TypeVar("T", bound=Body)


async def read(request: Request, shape: type[T]) -> T:
    """The body of a request in its shape.

    Raises:
        Refused: 415 where it is not declared as JSON, 413 too large, 400 no JSON, 422 another shape.
    """
    _check_type(request.headers.getlist("content-type"))
    value = await _json(request)
    if not isinstance(value, dict):
        raise Refused(400, "body", "the body must be a JSON object")
    try:
        return shape.model_validate(value)
    except ValidationError as error:
        known = shape.model_fields
        places = {str(problem["loc"][0]) if problem["loc"] else "" for problem in error.errors(include_input=False)}
        named = sorted(places & set(known))
        unknown = "an unknown field; " if places - set(known) else ""
        wrong = f"wrong or missing: {', '.join(named)}; " if named else ""
        raise Refused(422, "shape", f"{unknown}{wrong}fields are {', '.join(known)}") from None


def _check_type(sent: list[str]) -> None:
    kind, _, parameters = (sent[0] if len(sent) == 1 else "").partition(";")
    charset = parameters.replace(" ", "").lower()
    if kind.strip().lower() != "application/json" or charset not in ("", "charset=utf-8"):
        raise Refused(415, "content_type", "send the body as Content-Type: application/json")


async def _json(request: Request) -> object:
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared[:20]) > LARGEST_BODY:
        raise Refused(413, "too_large", f"a body has at most {LARGEST_BODY} bytes")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            raise Refused(413, "too_large", f"a body has at most {LARGEST_BODY} bytes")
    try:
        text = body.decode("utf-8")
        value = strict_json.loads(text)
        _check_texts(value, DEEPEST)
    except ValueError:
        raise Refused(400, "json", "the body is no JSON (RFC 8259, UTF-8)") from None
    return value


def _check_texts(value: object, depth: int) -> None:
    """Half a surrogate pair is JSON, but cannot be written to any file."""
    if depth < 0:
        raise ValueError("too deep")
    if isinstance(value, str):
        value.encode("utf-8")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_texts(key, depth)
            _check_texts(item, depth - 1)
    elif isinstance(value, list):
        for item in value:
            _check_texts(item, depth - 1)
