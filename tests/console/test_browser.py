"""The console in a real Chromium: what other sites cannot do, what people can, and that everybody can read it."""

import functools
import http.server
import json
import threading
import time
from pathlib import Path

import pytest

from tests.console.conftest import NASTY, Served, put, write_folder
from tests.project import copy_project
from tests.servers.hub import TOKEN, Hub

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install -e '.[dev]')")
CHROMIUM = next((place for place in ("/usr/bin/chromium", "/usr/bin/chromium-browser") if Path(place).exists()), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (apt-get install chromium)")
PAGES = ["/", "/plan", "/runs", "/training", "/models", "/hub", "/spend", "/tracks/structured/rows?filter=wrong"]


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as driver:
        yield driver


def wait(page, expression, seconds=60):
    """Until an expression is true; wait_for_function would need what the page's policy forbids."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(100)


def launch(chromium, *arguments):
    return chromium.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *arguments])


@pytest.fixture
def browser(chromium):
    made = launch(chromium)
    yield made
    made.close()


class Watched:
    """A page, and whatever it complains about."""

    def __init__(self, browser, **options):
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.said, self.asked = [], []
        self.page.on("console", lambda message: self.said.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.said.append("dialog"), dialog.dismiss()))
        self.page.on("request", lambda request: self.asked.append(request.url))
        # Violations of the policy are errors of the console, too; this sees those of other kinds.
        self.page.add_init_script(
            "addEventListener('securitypolicyviolation', e => console.error('csp ' + e.violatedDirective))"
        )


@pytest.fixture
def foreign(tmp_path):
    """Another site on this machine; returns (address, write)."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    handler.func.log_message = lambda *_: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://localhost:{server.server_address[1]}", lambda name, text: put(tmp_path / name, text)
    server.shutdown()


ATTACK = """<!doctype html><title>evil</title><body><script>
const to = "ADDRESS", body = '{"modelId":"hf-phi-4-mini"}';
const done = [];
const note = (name, promise) => promise.then(r => done.push([name, r && r.type]), e => done.push([name, "refused"]));
note("no-cors", fetch(to + "/api/slm/select", {method: "POST", mode: "no-cors", headers: {"Content-Type": "text/plain"}, body}));
note("cors", fetch(to + "/api/slm/select", {method: "POST", headers: {"Content-Type": "application/json"}, body}));
note("read", fetch(to + "/api/slm/models"));
note("delete", fetch(to + "/api/hf/token", {method: "DELETE"}));
navigator.sendBeacon(to + "/api/slm/select", new Blob([body], {type: "application/json"}));
navigator.sendBeacon(to + "/api/slm/select", body);
const image = new Image(); image.src = to + "/api/hf/token";
image.onload = () => done.push(["image", "loaded"]); image.onerror = () => done.push(["image", "refused"]);
const script = document.createElement("script"); script.src = to + "/static/app.js";
script.onload = () => done.push(["script", "loaded"]); script.onerror = () => done.push(["script", "refused"]);
document.head.append(script);
const frame = document.createElement("iframe"); frame.src = to + "/"; document.body.append(frame);
const source = new EventSource(to + "/api/runs/x/events"); source.onerror = () => { done.push(["events", "refused"]); source.close(); };
note("worker", navigator.serviceWorker ? navigator.serviceWorker.register(to + "/static/app.js") : Promise.reject());
window.done = done;
</script>
<form id="f" method="post" enctype="text/plain" action="ADDRESS/api/slm/select"><input name='{"modelId":"hf-phi-4-mini","x":"' value='"}'></form>
"""


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_another_site_has_no_effect_and_reads_nothing(served, browser, foreign, name):
    address, write = foreign
    served.ask("POST", "/api/slm/select", {"modelId": "embedded"})
    served.ask("POST", "/api/hf/token", {"token": "hf_keepme"})
    write("evil.html", ATTACK.replace("ADDRESS", f"http://{name}:{served.port}"))
    watched = Watched(browser)
    watched.page.goto(f"{address}/evil.html")
    watched.page.wait_for_function("window.done && window.done.length >= 8", timeout=15_000)
    done = dict(map(tuple, watched.page.evaluate("window.done")))
    assert done["no-cors"] in ("opaque", "refused")  # sent, refused there, and unreadable here
    assert {done[kind] for kind in ("cors", "read", "delete", "image", "script", "events", "worker")} == {"refused"}
    frame = watched.page.frames[-1]
    assert "Verdicts" not in (frame.content() if not frame.is_detached() else "")
    with watched.page.expect_navigation():
        watched.page.evaluate("document.getElementById('f').submit()")
    assert "origin" in watched.page.content()
    assert served.selection() == "embedded"
    assert served.get("/api/hf/token").json["hasToken"]
    served.ask("DELETE", "/api/hf/token")


def test_a_name_that_was_rebound_gets_nothing(served, chromium):
    browser = launch(chromium, "--host-resolver-rules=MAP rebind.test 127.0.0.1")
    try:
        page = browser.new_page()
        reply = page.goto(f"http://rebind.test:{served.port}/")
        assert reply.status == 400
        assert "Verdicts" not in page.content()
        told = page.evaluate("fetch('/api/slm/models').then(r => r.status)")
        assert told == 400
    finally:
        browser.close()


def test_a_window_that_opened_it_cannot_reach_into_it(served, browser, foreign):
    address, write = foreign
    write("opener.html", "<!doctype html><title>o</title>")
    watched = Watched(browser)
    watched.page.goto(f"{address}/opener.html")
    with watched.context.expect_page() as opened:
        watched.page.evaluate(f"window.w = open('{served.url}/')")
    opened.value.wait_for_load_state()
    assert watched.page.evaluate(
        "(() => { try { return w.closed || !!w.document } catch { return 'refused' } })()"
    ) in (
        True,
        "refused",
    )
    assert opened.value.evaluate("window.opener") is None


def test_markup_of_models_and_catalogs_is_text(root, tmp_path, browser):
    write_folder(root, tmp_path)
    put(
        tmp_path / "config/model_catalog.json",
        [{"id": "a", "label": NASTY, "source": "local", "description": "javascript:alert(1) {{7*7}}"}],
    )
    console = Served(tmp_path).start()
    try:
        watched = Watched(browser)
        for path in PAGES:
            watched.page.goto(console.url + path)
            watched.page.wait_for_timeout(200)
        assert watched.said == [], watched.asked
        assert all(address.startswith(console.url) for address in watched.asked)
        watched.page.goto(console.url + "/models")
        assert NASTY in watched.page.inner_text("main")
        watched.page.goto(console.url + "/report/structured.html")  # runs its script, without our origin
        assert watched.page.title() == "ran"
        assert watched.page.evaluate("origin") == "null"
        assert (
            watched.page.evaluate(f"fetch('{console.url}/api/slm/models').then(() => 'read', () => 'refused')")
            == "refused"
        )
    finally:
        console.end()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_everybody_can_read_it(served, browser, scheme, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    watched = Watched(browser, viewport={"width": width, "height": 800}, color_scheme=scheme)
    checked = Watched(browser, viewport={"width": width, "height": 800}, color_scheme=scheme, bypass_csp=True)
    for path in PAGES:
        watched.page.goto(served.url + path)
        watched.page.wait_for_timeout(200)
        assert not watched.page.evaluate(
            "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        ), path
        checked.page.goto(served.url + path)
        found = axe.run(checked.page).response["violations"]
        assert [(one["id"], [node["target"] for node in one["nodes"]]) for one in found] == [], path
    assert watched.said == []
    assert all(address.startswith(served.url) for address in watched.asked)


def test_without_javascript(served, browser):
    page = browser.new_context(java_script_enabled=False).new_page()
    for path in PAGES:
        assert page.goto(served.url + path).status == 200
        assert page.inner_text("h1")
    page.goto(served.url + "/tracks/structured/rows")
    page.click("text=Differ")
    page.fill("input[name=q]", "question 3")
    page.click("text=Show")
    assert "filter=differ" in page.url
    assert "q=question+3" in page.url
    assert "question 3" in page.inner_text(".list")


def test_with_the_keyboard_alone(served, browser):
    page = Watched(browser, viewport={"width": 1280, "height": 800}).page
    page.goto(served.url + "/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent").startswith("Rows"):
            break
    page.keyboard.press("Enter")
    page.wait_for_url("**/rows?**")
    first = page.inner_text("#rowid")
    page.keyboard.press("j")
    wait(page, f"document.getElementById('rowid').textContent !== {json.dumps(first)}")
    assert "row=" in page.url  # the address can be shared
    page.keyboard.press("k")
    wait(page, f"document.getElementById('rowid').textContent === {json.dumps(first)}")
    page.goto(served.url + "/models")
    page.focus("input[value=embedded]")
    page.keyboard.press("Space")
    page.keyboard.press("Enter")
    page.wait_for_url("**/plan")
    assert served.selection() == "embedded"


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_story(root, tmp_path, chromium):
    """Choose a model, see what would run, start, reload in the middle, stop, go on to the verdict, upload, marker."""
    copy_project(root, tmp_path)
    small = {
        "tracks": {"structured": None, "toolcall": {"sources": [{"embedded": "toolcall", "rows": 120, "house": 0.8}]}},
        "decision": {"resamples": 300},
        "recipe": {"candidates": 1},
    }
    put(tmp_path / "small.yaml", small)
    put(
        tmp_path / "config/model_catalog.json",
        [
            {"id": "small", "label": "Small", "source": "local", "steps": 8},
            {"id": "smaller", "label": "Smaller", "source": "local", "steps": 6},
        ],
    )
    browser = launch(chromium)
    with Hub() as hub:
        console = Served(tmp_path, {"HF_ENDPOINT": hub.url}, ("--configfile", "small.yaml")).start()
        try:
            watched = Watched(browser)
            page = watched.page
            page.set_default_timeout(60_000)
            page.goto(console.url + "/models")
            page.check("input[value=smaller]")
            page.click("#choose")
            page.wait_for_url("**/plan")
            assert console.selection() == "smaller"
            assert "fetch" in page.inner_text("main")
            assert "not built yet" in page.inner_text("main")
            page.click("#start")
            page.wait_for_url("**/runs/2*")
            page.wait_for_selector("#jobs td:has-text('running')")
            wait(page, "document.getElementById('runbar').value >= 3")
            page.reload()
            wait(page, "document.getElementById('runbar').value >= 3")
            console.kill()
            console.start(console.port)
            page.reload()
            page.wait_for_selector("#stop:not([hidden])")
            page.click("#stop")
            page.wait_for_selector("#runstate:has-text('stopped')")
            page.click("#resume")
            page.wait_for_selector("#start")
            page.click("#start")
            page.wait_for_url("**/runs/2*")
            page.wait_for_selector("#runstate:has-text('done')", timeout=900_000)
            assert page.is_visible("#loss")
            page.click("#answers")
            assert "Simulated" in page.inner_text(".card >> nth=0")
            page.goto(console.url + "/hub")
            page.fill("input[name=token]", TOKEN)
            page.click("text=Keep")
            page.wait_for_selector("text=A token is set")
            time.sleep(2)
            page.fill("input[name=repoId]", "org/story")
            page.check("input[name=autoSubdir]")
            page.click("#look")
            page.wait_for_selector("#files li:has-text('adapter_model.safetensors')")
            page.click("#send")
            page.wait_for_selector("td:has-text('done')")
            assert [name for name in hub.repo("org/story").files if name.endswith("adapter_model.safetensors")]
            assert list((tmp_path / ".fledgling/uploads").glob("*/marker.json"))
            assert not [said for said in watched.said if "ERR_" not in said and "Failed to load" not in said], (
                watched.said
            )
            assert all(address.startswith(console.url) for address in watched.asked)
        finally:
            for run in console.get("/api/runs").json["runs"]:
                if run["state"] == "running":
                    console.ask("POST", f"/api/runs/{run['run']}/stop", {})
            console.end()
            browser.close()
