"""The routes: each page and each call of the API, as thin as it can be."""

import asyncio
import hashlib
import json
import logging
import re
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from jinja2 import ChainableUndefined, Environment, FileSystemLoader, select_autoescape
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from fledgling import selection
from fledgling.config import NAME
from fledgling.console import bodies, reading
from fledgling.console.hub import PATIENCE_S, Hub, refusal
from fledgling.console.policy import FAULT, Policy, Refused
from fledgling.console.price import Price
from fledgling.console.reading import Folder, Object, items, obj, text, whole
from fledgling.console.rows import FILTERS, PAGE, Rows
from fledgling.console.runs import Runs, age
from fledgling.console.spend import Spend
from fledgling.errors import ConfigError
from fledgling.publishing import token as tokens

HERE = Path(__file__).parent
STATIC = {
    "app.js": "text/javascript; charset=utf-8",
    "app.css": "text/css; charset=utf-8",
    "uplot.js": "text/javascript; charset=utf-8",
    "uplot.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
TARGET = re.compile(r"all|results/[A-Za-z0-9_][A-Za-z0-9._-]*(?:/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
# A report is one page with its own style and script; it runs in a sandbox of no origin, from which nothing here answers.
REPORT_CSP = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; font-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox allow-scripts"
)
STREAM_S = 1.0  # between two looks at a run that is watched
LONGEST_STREAM_S = 3600
MOST_STREAMS = 20
log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass
class Console:
    """What the routes share: readers of one folder, and the locks of what they change."""

    root: Path
    configfiles: list[Path]
    warnings: list[str] = field(default_factory=list)
    patience_s: float = PATIENCE_S

    def __post_init__(self) -> None:
        self.folder = Folder(self.root, self.configfiles)
        self.runs = Runs(self.root, self.configfiles)
        self.price = Price(self.folder, self.runs)
        self.rows = Rows(self.root)
        self.hub = Hub(self.root, self.runs)
        self.spend = Spend(self.folder, self.runs)
        self.streams = 0
        self._choosing = threading.Lock()
        self.static = {name: (HERE / "static" / name).read_bytes() for name in STATIC}
        stamp = hashlib.sha256(b"".join(self.static.values())).hexdigest()[:12]
        self.pages = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=select_autoescape(default=True, default_for_string=True),
            undefined=ChainableUndefined,  # a file of another shape leaves a gap, and no page out
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.pages.globals |= {"stamp": stamp, "age": age, "filters": FILTERS}
        self.pages.filters |= {"json": _shown, "size": _size, "count": _count}

    def models(self) -> Object:
        """GET /api/slm/models."""
        catalog = self.folder.catalog()
        chosen = selection.read_selection(self.root)
        fallback = (
            selection.matching(self.folder.plain_configuration(), catalog, self.root) if not chosen.choice else None
        )
        problems = [*catalog.problems, *filter(None, [chosen.problem])]
        return {
            "models": [_model(entry) for entry in catalog.entries.values()],
            "selectedModelId": chosen.choice["modelId"] if chosen.choice else fallback,
            "selectedAt": chosen.choice["selectedAt"] if chosen.choice else None,
            **({"problems": problems} if problems else {}),
        }

    def select(self, model_id: str) -> Object:
        """POST /api/slm/select.

        Raises:
            Refused: 404 for a model that is not in the catalog, 409 for one that cannot be used now.
        """
        with self._choosing:
            try:
                return {"ok": True, "selection": dict(selection.select(self.root, model_id))}
            except KeyError:
                raise Refused(404, "unknown_model", "no such model in config/model_catalog.json") from None
            except ConfigError as error:
                raise Refused(409, "unavailable", str(error)) from None


def _model(entry: selection.Entry) -> Object:
    given: Object = {"id": entry.id, "label": entry.label, "source": entry.source}
    for key, value in (("modelId", entry.model_id), ("path", entry.path), ("description", entry.description)):
        if value is not None:
            given[key] = value
    if entry.default:
        given["default"] = True
    given |= {"available": not entry.problem, "location": entry.location}
    if entry.problem:
        given["reason"] = entry.problem
    return given


def reply(value: object, status: int = 200) -> Response:
    """JSON that is never kept by anybody on the way."""
    data = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False, default=str).encode()
    return Response(data, status, {"cache-control": "no-store"}, "application/json")


def make(console: Console) -> Starlette:
    """The application of a console, without the policy that stands before it."""
    api, pages = Api(console), Pages(console)
    routes = [
        Route("/", pages.overview),
        Route("/tracks/{track}/rows", pages.rows),
        Route("/plan", pages.plan),
        Route("/runs", pages.runs),
        Route("/runs/{run}", pages.run),
        Route("/training", pages.training),
        Route("/models", pages.models),
        Route("/hub", pages.hub),
        Route("/spend", pages.spend),
        Route("/report/{track}.html", pages.report),
        Route("/static/{name}", pages.static),
        Route("/health", api.health),
        Route("/healthz", api.health),
        Route("/api/slm/models", api.models),
        Route("/api/slm/select", api.select, methods=["POST"]),
        Route("/api/hf/token", api.token, methods=["GET", "POST", "DELETE"]),
        Route("/api/hf/account", api.account),
        Route("/api/hf/files", api.files, methods=["POST"]),
        Route("/api/hf/upload", api.upload, methods=["POST"]),
        Route("/api/hf/uploads", api.uploads),
        Route("/api/hf/uploads/{job}", api.upload_job),
        Route("/api/verdicts", api.verdicts),
        Route("/api/tracks/{track}/rows", api.rows),
        Route("/api/tracks/{track}/rows/{number:int}", api.row),
        Route("/api/plan", api.plan),
        Route("/api/runs", api.runs, methods=["GET", "POST"]),
        Route("/api/runs/{run}", api.run),
        Route("/api/runs/{run}/log", api.log),
        Route("/api/runs/{run}/events", api.events),
        Route("/api/runs/{run}/stop", api.stop, methods=["POST"]),
        Route("/api/training", api.training),
        Route("/api/spend", api.spend),
    ]

    async def not_here(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code, words = {404: ("not_found", "no such page"), 405: ("method", "not with this method")}.get(
            error.status_code, ("refused", "refused")
        )
        response = reply({"ok": False, "error": code, "message": words}, error.status_code)
        for name, value in (error.headers or {}).items():
            response.headers[name] = value
        return response

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        return Response(error.body, error.status, {"cache-control": "no-store"}, "application/json")

    async def fault(request: Request, error: Exception) -> Response:
        return Response(FAULT.body, FAULT.status, {"cache-control": "no-store"}, "application/json")

    app = Starlette(routes=routes, exception_handlers={HTTPException: not_here, Refused: refused, Exception: fault})
    app.router.redirect_slashes = False
    return app


class Api:
    """JSON for other systems, and for the pages' own script."""

    def __init__(self, console: Console) -> None:
        self._console = console

    async def health(self, request: Request) -> Response:
        """GET /health."""
        return reply({"status": "ok"})

    async def models(self, request: Request) -> Response:
        """GET /api/slm/models."""
        return reply(await run_in_threadpool(self._console.models))

    async def select(self, request: Request) -> Response:
        """POST /api/slm/select."""
        body = await bodies.read(request, bodies.Select)
        return reply(await run_in_threadpool(self._console.select, body.modelId))

    async def token(self, request: Request) -> Response:
        """GET, POST and DELETE /api/hf/token."""
        root, hub = self._console.root, self._console.hub
        if request.method == "POST":
            body = await bodies.read(request, bodies.Token)
            try:
                await run_in_threadpool(tokens.write, root, body.token)
            except ConfigError as error:
                raise Refused(409, "token_file", str(error)) from None
            hub.account()
            return reply({"ok": True, "updatedAt": tokens.updated_at(root)})
        if request.method == "DELETE":
            tokens.delete(root)
            return reply({"ok": True})
        return reply(hub.token())

    async def account(self, request: Request) -> Response:
        """GET /api/hf/account: who the token belongs to, where the Hub has said so."""
        return reply(self._console.hub.account())

    async def files(self, request: Request) -> Response:
        """POST /api/hf/files: what an upload would send."""
        body = await bodies.read(request, bodies.Upload)
        return reply({"ok": True, **await run_in_threadpool(self._console.hub.files, body)})

    async def upload(self, request: Request) -> Response:
        """POST /api/hf/upload: 200 with the result where it ends soon, else 202 with the job to ask for."""
        body = await bodies.read(request, bodies.Upload)
        hub = self._console.hub
        name = await run_in_threadpool(hub.start, body)
        for _ in range(int(self._console.patience_s / 0.1)):
            job = await run_in_threadpool(hub.job, name)
            if job["state"] == "done":
                return reply({"ok": True, "result": job["result"], "job": name})
            if job["state"] != "running":
                raise refusal(job)
            await asyncio.sleep(0.1)
        return reply({"ok": True, "job": name, "state": "running", "ask": f"/api/hf/uploads/{name}"}, 202)

    async def uploads(self, request: Request) -> Response:
        """GET /api/hf/uploads."""
        return reply({"uploads": await run_in_threadpool(self._console.hub.jobs)})

    async def upload_job(self, request: Request) -> Response:
        """GET /api/hf/uploads/{job}."""
        return reply(await run_in_threadpool(self._console.hub.job, request.path_params["job"]))

    async def verdicts(self, request: Request) -> Response:
        """GET /api/verdicts."""
        return reply({"verdicts": [card.__dict__ for card in await run_in_threadpool(cards, self._console.folder)]})

    async def rows(self, request: Request) -> Response:
        """GET /api/tracks/{track}/rows?filter=&contender=&q=&offset=&limit=."""
        return reply(await run_in_threadpool(page_of, self._console.rows, request, PAGE))

    async def row(self, request: Request) -> Response:
        """GET /api/tracks/{track}/rows/{number}."""
        track, number = track_of(request), request.path_params["number"]
        return reply(await run_in_threadpool(self._console.rows.row, track, number))

    async def plan(self, request: Request) -> Response:
        """GET /api/plan?target=…&target=…."""
        wanted = checked(request.query_params.getlist("target"))
        return reply(await run_in_threadpool(self._console.price.plan, wanted))

    async def runs(self, request: Request) -> Response:
        """GET /api/runs, and POST to start one at the price that was confirmed."""
        runs = self._console.runs
        if request.method == "GET":
            listed = await run_in_threadpool(runs.all)
            return reply({"runs": listed, "failedStarts": runs.failed_starts(), "starting": runs.starting()})
        body = await bodies.read(request, bodies.Start)
        wanted = checked(body.targets)
        if active := await run_in_threadpool(runs.active):
            raise Refused(409, "busy", f"the run {active['run']} works in this folder; wait for it or stop it")
        plan = await run_in_threadpool(self._console.price.plan, wanted)
        if body.confirm != plan["confirm"]:
            raise Refused(409, "price", "confirm what it costs: send `confirm` of this plan", plan=plan)
        if not plan["jobs"]:
            raise Refused(409, "nothing", "nothing to be done: all that was asked for is up to date")
        started = await run_in_threadpool(runs.start, wanted)
        return reply({"ok": True, **started}, 202)

    async def run(self, request: Request) -> Response:
        """GET /api/runs/{run}."""
        return reply(await run_in_threadpool(self._console.runs.read, request.path_params["run"]))

    async def log(self, request: Request) -> Response:
        """GET /api/runs/{run}/log: the end of the log that was written last."""
        said = await run_in_threadpool(self._console.runs.tail, request.path_params["run"])
        return Response(said, 200, {"cache-control": "no-store"}, "text/plain; charset=utf-8")

    async def stop(self, request: Request) -> Response:
        """POST /api/runs/{run}/stop."""
        await bodies.read(request, bodies.Body)
        await run_in_threadpool(self._console.runs.stop, request.path_params["run"])
        return reply({"ok": True}, 202)

    async def events(self, request: Request) -> Response:
        """GET /api/runs/{run}/events: server-sent events, the whole run each time something has changed."""
        console, name = self._console, request.path_params["run"]
        first = await run_in_threadpool(console.runs.read, name)
        if console.streams >= MOST_STREAMS:
            raise Refused(503, "streams", f"{MOST_STREAMS} pages are watching already; ask /api/runs/{name} instead")

        async def stream() -> AsyncIterator[bytes]:
            if console.streams >= MOST_STREAMS:  # others have come while this one was on its way
                yield b"retry: 30000\n\n"
                return
            console.streams += 1
            try:
                before, run = "", first
                for second in range(LONGEST_STREAM_S):
                    said = json.dumps(run, default=str)
                    if said != before:
                        yield f"data: {said}\n\n".encode()
                        before = said
                    elif second % 10 == 0:
                        yield b": still here\n\n"
                    if run["state"] != "running":
                        return
                    await asyncio.sleep(STREAM_S)
                    run = await run_in_threadpool(console.runs.read, name)
            finally:
                console.streams -= 1

        return StreamingResponse(stream(), 200, {"cache-control": "no-store"}, "text/event-stream")

    async def training(self, request: Request) -> Response:
        """GET /api/training."""
        return reply({"trainings": await run_in_threadpool(reading.trainings, self._console.folder)})

    async def spend(self, request: Request) -> Response:
        """GET /api/spend."""
        return reply(await run_in_threadpool(self._console.spend.read))


class Pages:
    """The same for people: whole pages, readable without JavaScript."""

    def __init__(self, console: Console) -> None:
        self._console = console

    async def _page(self, name: str, make: Callable[[], Object]) -> Response:
        def render() -> str:
            active = self._console.runs.active()
            shared = {"active": active, "warnings": self._console.warnings, "page": name}
            return self._console.pages.get_template(f"{name}.html.jinja").render(**shared, **make())

        data = (await run_in_threadpool(render)).encode("utf-8", "backslashreplace")
        return Response(data, 200, {"cache-control": "no-store"}, "text/html; charset=utf-8")

    async def overview(self, request: Request) -> Response:
        """/: the verdicts."""
        folder = self._console.folder
        return await self._page("overview", lambda: {"cards": cards(folder), "problem": folder.configuration()[1]})

    async def rows(self, request: Request) -> Response:
        """/tracks/{track}/rows: rows side by side."""
        track, rows = track_of(request), self._console.rows

        def make() -> Object:
            try:
                page = page_of(rows, request, PAGE)
            except Refused as refused:
                if refused.status != 404:
                    raise
                return {"track": track, "rows": None, "row": None, "why": refused.message}
            listed = [obj(one) for one in items(page["rows"])]
            number = whole_of(request, "row", whole(listed[0]["number"]) if listed else None)
            row = rows.row(track, number) if number is not None else None
            return {"track": track, "rows": page, "row": row, "why": "", "limit": PAGE}

        return await self._page("rows", make)

    async def plan(self, request: Request) -> Response:
        """/plan: what would run and what it costs."""
        wanted = checked(request.query_params.getlist("target"))

        def make() -> Object:
            try:
                return {"plan": self._console.price.plan(wanted), "why": ""}
            except Refused as refused:
                return {"plan": None, "why": refused.message}

        return await self._page("plan", make)

    async def runs(self, request: Request) -> Response:
        """/runs: what ran."""
        runs = self._console.runs
        return await self._page("runs", lambda: {"runs": runs.all(), "failed": runs.failed_starts()})

    async def run(self, request: Request) -> Response:
        """/runs/{run}: one run, live."""
        name, runs = request.path_params["run"], self._console.runs
        return await self._page("run", lambda: {"run": runs.read(name), "tail": runs.tail(name)})

    async def training(self, request: Request) -> Response:
        """/training: curves over each other."""
        return await self._page("training", lambda: {"trainings": reading.trainings(self._console.folder)})

    async def models(self, request: Request) -> Response:
        """/models: the selector."""
        return await self._page("models", self._console.models)

    async def hub(self, request: Request) -> Response:
        """/hub: token and uploads."""
        hub, root = self._console.hub, self._console.root

        def make() -> Object:
            places = sorted({place.parent for place in (root / "results/adapters").rglob("adapter_model.safetensors")})
            ready = [str(place.relative_to(root)) for place in places]
            return {"token": hub.token(), "account": hub.account(), "uploads": hub.jobs(), "ready": ready}

        return await self._page("hub", make)

    async def spend(self, request: Request) -> Response:
        """/spend: what was paid."""
        return await self._page("spend", self._console.spend.read)

    async def report(self, request: Request) -> Response:
        """/report/{track}.html: the report as it was built, in a sandbox."""
        place = self._console.root / f"results/report/{track_of(request)}.html"
        try:
            data = await run_in_threadpool(reading.content, place)
        except OSError:
            raise Refused(404, "not_found", "no report is built yet") from None
        headers = {"cache-control": "no-store", "content-security-policy": REPORT_CSP}
        return Response(data, 200, headers, "text/html; charset=utf-8")

    async def static(self, request: Request) -> Response:
        """/static/{name}: the five files that there are."""
        name = request.path_params["name"]
        if name not in STATIC:
            raise Refused(404, "not_found", "no such file")
        return Response(self._console.static[name], 200, {"cache-control": "no-cache"}, STATIC[name])


def cards(folder: Folder) -> list[reading.Card]:
    """The verdicts of all tracks."""
    return [reading.card(folder.track(name)) for name in folder.track_names()]


def track_of(request: Request) -> str:
    """The track that an address names.

    Raises:
        Refused: 404 where it can be no track's name.
    """
    track = request.path_params["track"]
    if not NAME.fullmatch(track) or len(track) > 100:
        raise Refused(404, "not_found", "no such track")
    return str(track)


def checked(wanted: list[str]) -> list[str]:
    """Targets as Snakemake may be asked for.

    Raises:
        Refused: 400.
    """
    if len(wanted) > 50 or any(
        len(target) > 300 or not TARGET.fullmatch(target) or ".." in target for target in wanted
    ):
        raise Refused(400, "target", "targets are `all` or files under results/")
    return sorted({target for target in wanted if target != "all"}) if "all" not in wanted else []


def whole_of(request: Request, name: str, default: int | None) -> int | None:
    """A whole number of the query; the default where it is none."""
    given = request.query_params.get(name, "")
    return int(given) if given.isascii() and given.isdigit() and len(given) < 10 else default


def page_of(rows: Rows, request: Request, limit: int) -> Object:
    """The page of rows that a query names."""
    query = request.query_params
    return rows.page(
        track_of(request),
        query.get("filter", "all"),
        query.get("contender", ""),
        query.get("q", ""),
        whole_of(request, "offset", 0) or 0,
        whole_of(request, "limit", limit) or limit,
    )


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)


def _count(value: object) -> str:
    """A number for people; unknown is never 0."""
    if value is None:
        return "unknown"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}" if isinstance(value, float) else text(value)


def _size(value: object) -> str:
    size = float(value) if isinstance(value, (int, float)) else 0.0
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


__all__ = ["Console", "Policy", "make"]
