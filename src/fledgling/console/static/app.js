// @ts-check
/** The page's own script: actions that change something, live runs, curves, keys. Pages read well without it. */

/** @typedef {{state: string, rule: string, name?: string, started: string, ended?: string, done?: number, total?: number, unit?: string, message?: string, loss?: [number, number][]}} Job */
/** @typedef {{run: string, state: string, done: number, total: number, jobs: Job[], messages: string[], targets: string[]}} Run */

const SIGNS = { running: "▶", done: "✓", failed: "✗", stopped: "■", killed: "✗" };

/** @param {string} id @returns {HTMLElement | null} */
const byId = (id) => document.getElementById(id);

/** Say something to the person, also to a screen reader. @param {string} text */
function say(text) {
  const place = byId("said");
  if (place) place.textContent = text;
}

/** @param {string} method @param {string} address @param {object} [body] @returns {Promise<any>} */
async function call(method, address, body) {
  const request = { method, headers: body ? { "Content-Type": "application/json" } : {}, body: body && JSON.stringify(body) };
  let reply;
  try {
    reply = await fetch(address, request);
  } catch {
    throw new Error("The console does not answer; is it still running?");
  }
  const value = await reply.json();
  if (!reply.ok) throw Object.assign(new Error(value.message), { code: value.error, body: value });
  return value;
}

/** Run an action of a button; it cannot be pressed twice, and says what went wrong. @param {HTMLElement | null} button @param {() => Promise<void>} action */
async function act(button, action) {
  if (button instanceof HTMLButtonElement) button.disabled = true;
  say("");
  try {
    await action();
  } catch (error) {
    say(error instanceof Error ? error.message : String(error));
  } finally {
    if (button instanceof HTMLButtonElement) button.disabled = false;
  }
}

/** @param {string} name @param {string} text @param {string} [className] */
function element(name, text, className) {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

// --- Model -------------------------------------------------------------------------------------------------------
byId("models")?.addEventListener("submit", (event) => {
  event.preventDefault();
  const chosen = document.querySelector("input[name=model]:checked");
  void act(byId("choose"), async () => {
    if (!(chosen instanceof HTMLInputElement)) throw new Error("Choose a model first.");
    await call("POST", "/api/slm/select", { modelId: chosen.value });
    location.assign("/plan");
  });
});

// --- Start -------------------------------------------------------------------------------------------------------
byId("start")?.addEventListener("click", (event) => {
  const button = /** @type {HTMLButtonElement} */ (event.currentTarget);
  void act(button, async () => {
    const targets = JSON.parse(button.dataset.targets ?? "[]");
    say("Starting …");
    try {
      const started = await call("POST", "/api/runs", { targets, confirm: button.dataset.confirm });
      await follow(started.pid);
    } catch (error) {
      if (error instanceof Error && "code" in error && error.code === "price") {
        say("What would run has changed; look at it again.");
        location.reload();
        return;
      }
      throw error;
    }
  });
});

/** Go to the page of a run as soon as it has one. @param {number} pid */
async function follow(pid) {
  for (let tries = 0; tries < 60; tries++) {
    const { runs, starting } = await call("GET", "/api/runs");
    const found = runs.find((/** @type {Run} */ run) => run.run.endsWith(`-${pid}`));
    if (found || !starting) {
      location.assign(found ? `/runs/${found.run}` : "/runs");
      return;
    }
    await new Promise((done) => setTimeout(done, 500));
  }
  location.assign("/runs");
}

// --- A run, live -------------------------------------------------------------------------------------------------
const runPlace = byId("run");
if (runPlace) {
  const name = runPlace.dataset.run ?? "";
  byId("stop")?.addEventListener("click", () =>
    act(byId("stop"), async () => {
      await call("POST", `/api/runs/${name}/stop`, {});
      say("Stopping; what is done is kept.");
    }),
  );
  void call("GET", `/api/runs/${name}`).then(show).catch(() => {});
  if (runPlace.dataset.state === "running") watch(name);
}

/** Server-sent events; where they fail, a look every three seconds. @param {string} name */
function watch(name) {
  const source = new EventSource(`/api/runs/${name}/events`);
  let polling = false;
  source.onmessage = (event) => {
    const run = JSON.parse(event.data);
    show(run);
    void tail(name);
    if (run.state !== "running") source.close();
  };
  source.onerror = () => {
    if (source.readyState !== EventSource.CLOSED && !polling) return; // the browser tries again by itself
    if (polling) return;
    polling = true;
    const timer = setInterval(() => {
      call("GET", `/api/runs/${name}`).then((run) => {
        show(run);
        void tail(name);
        if (run.state !== "running") clearInterval(timer);
      }).catch(() => say("The console does not answer; the run goes on without it."));
    }, 3000);
  };
}

let tailed = 0;
/** @param {string} name */
async function tail(name) {
  if (Date.now() - tailed < 2000) return;
  tailed = Date.now();
  const place = byId("tail");
  const reply = await fetch(`/api/runs/${name}/log`).catch(() => null);
  if (place && reply?.ok) place.textContent = await reply.text();
}

/** @param {Run} run */
function show(run) {
  const state = byId("runstate");
  if (state) state.replaceChildren(hiddenSign(run.state), ` ${run.state}`);
  const count = byId("runcount");
  if (count) count.textContent = `${run.done} of ${run.total} jobs done`;
  const bar = byId("runbar");
  if (bar instanceof HTMLProgressElement) [bar.max, bar.value] = [run.total || 1, run.done];
  byId("stop")?.toggleAttribute("hidden", run.state !== "running");
  byId("resume")?.toggleAttribute("hidden", ["running", "done"].includes(run.state));
  byId("answers")?.toggleAttribute("hidden", run.state !== "done");
  byId("messages")?.replaceChildren(...run.messages.map((message) => element("pre", message, "note")));
  byId("jobs")?.replaceChildren(...[...run.jobs].reverse().map(jobRow));
  const trained = run.jobs.filter((job) => job.loss && job.loss.length > 1);
  const place = byId("loss");
  if (place && trained.length) {
    place.hidden = false;
    draw(place, "Loss by step", trained.map((job) => ({ name: `${job.rule} ${job.name ?? ""}`, points: job.loss ?? [] })));
  }
}

/** @param {string} state */
function hiddenSign(state) {
  const sign = element("span", SIGNS[/** @type {keyof SIGNS} */ (state)] ?? "?");
  sign.setAttribute("aria-hidden", "true");
  return sign;
}

/** @param {Job} job */
function jobRow(job) {
  const row = document.createElement("tr");
  const far = job.done === undefined ? "" : `${job.done.toLocaleString("en")}${job.total === undefined ? "" : `/${job.total.toLocaleString("en")}`} ${job.unit ?? ""}s`;
  const loss = job.loss?.length ? `, loss ${job.loss[job.loss.length - 1][1].toPrecision(3)}` : "";
  const cells = [job.state, job.rule, job.name ?? "", job.started.slice(11, 19), took(job), `${far}${loss} ${job.message ?? ""}`];
  row.append(...cells.map((cell) => element("td", cell)));
  return row;
}

/** @param {Job} job */
function took(job) {
  if (job.state !== "running" && !job.ended) return "";
  const seconds = Math.round(((job.ended ? Date.parse(job.ended) : Date.now()) - Date.parse(job.started)) / 1000);
  return seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

// --- Curves ------------------------------------------------------------------------------------------------------
const COLOURS = ["#1f8a65", "#c4552d", "#4a6fd0", "#a0721a", "#8a4fa8", "#2a9db0"];
const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3]];
/** @type {WeakMap<HTMLElement, any>} */
const charts = new WeakMap();

/** Lines over each other; told apart by dashes too, and drawn again where they were. @param {HTMLElement} place @param {string} title @param {{name: string, points: [number, number][]}[]} lines */
function draw(place, title, lines) {
  const Plot = /** @type {any} */ (window).uPlot;
  if (!Plot) return;
  const steps = [...new Set(lines.flatMap((line) => line.points.map(([step]) => step)))].sort((a, b) => a - b);
  const data = [steps, ...lines.map((line) => {
    const known = new Map(line.points);
    return steps.map((step) => known.get(step) ?? null);
  })];
  const old = charts.get(place);
  if (old && old.series.length === data.length) {
    old.setData(data);
    return;
  }
  old?.destroy();
  const ink = getComputedStyle(document.body).color;
  const grid = getComputedStyle(document.body).getPropertyValue("--line");
  const axis = { stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1 } };
  const options = {
    title,
    width: Math.max(Math.min(place.clientWidth - 20, 1140), 260),
    height: 260,
    scales: { x: { time: false } },
    axes: [axis, { ...axis, size: 60 }],
    series: [{ label: "step" }, ...lines.map((line, number) => ({ label: line.name, stroke: COLOURS[number % COLOURS.length], dash: DASHES[number % DASHES.length], width: 2, spanGaps: true }))],
  };
  charts.set(place, new Plot(options, data, place));
}

const curves = byId("curves");
if (curves) {
  const wanted = { loss: "Loss", learning_rate: "Learning rate", tokens_per_s: "Tokens a second", memory_gib: "Memory (GiB)" };
  call("GET", "/api/training").then(({ trainings }) => {
    for (const [key, title] of Object.entries(wanted)) {
      const lines = trainings.map((/** @type {any} */ one) => ({ name: one.name, points: one.history.filter((/** @type {any} */ entry) => key in entry).map((/** @type {any} */ entry) => [entry.step, entry[key]]) })).filter((/** @type {any} */ line) => line.points.length);
      if (!lines.length) continue;
      const place = element("div", "", "chart");
      place.setAttribute("role", "img");
      place.setAttribute("aria-label", `${title} by step; the table below has the ends`);
      curves.append(place);
      draw(place, `${title} by step`, lines);
    }
  }).catch((error) => say(error.message));
}

// --- Hub ---------------------------------------------------------------------------------------------------------
byId("token")?.addEventListener("submit", (event) => {
  event.preventDefault();
  const form = /** @type {HTMLFormElement} */ (event.currentTarget);
  const field = /** @type {HTMLInputElement} */ (form.elements.namedItem("token"));
  void act(form.querySelector("button"), async () => {
    const token = field.value.trim();
    field.value = "";
    await call("POST", "/api/hf/token", { token });
    location.reload();
  });
});
byId("forget")?.addEventListener("click", () =>
  act(byId("forget"), async () => {
    await call("DELETE", "/api/hf/token");
    location.reload();
  }),
);

/** @param {HTMLFormElement} form */
function uploadBody(form) {
  const given = new FormData(form);
  const text = (/** @type {string} */ name) => String(given.get(name) ?? "").trim();
  const paths = text("paths").split("\n").map((line) => line.trim()).filter(Boolean);
  return {
    repoId: text("repoId"),
    paths,
    repoType: text("repoType"),
    commitMessage: text("commitMessage") || "Upload with Fledgling",
    ...(text("branch") ? { branch: text("branch") } : {}),
    ...(text("pathInRepo") ? { pathInRepo: text("pathInRepo") } : {}),
    private: given.has("private"),
    autoSubdir: given.has("autoSubdir"),
  };
}

const upload = byId("upload");
if (upload instanceof HTMLFormElement) {
  const send = /** @type {HTMLButtonElement} */ (byId("send"));
  let listed = "";
  upload.addEventListener("input", () => (send.disabled = true));
  byId("look")?.addEventListener("click", () =>
    act(byId("look"), async () => {
      byId("files")?.replaceChildren();
      if (!upload.reportValidity()) return;
      const body = uploadBody(upload);
      const found = await call("POST", "/api/hf/files", body);
      listed = JSON.stringify(body);
      const list = document.createElement("ul");
      list.append(...found.files.map((/** @type {any} */ file) => element("li", `${file.path}, ${file.bytes.toLocaleString("en")} bytes`)));
      const left = document.createElement("ul");
      left.append(...found.leftOut.map((/** @type {string} */ path) => element("li", path)));
      byId("files")?.replaceChildren(
        element("h3", `${found.files.length} files, ${found.bytes.toLocaleString("en")} bytes, to ${body.repoId} (${body.private ? "private" : "public"})`),
        list,
        ...(found.leftOut.length ? [element("h3", "Left here"), left] : []),
      );
      send.disabled = false;
      send.focus();
    }),
  );
  upload.addEventListener("submit", (event) => {
    event.preventDefault();
    void act(send, async () => {
      const body = uploadBody(upload);
      if (JSON.stringify(body) !== listed) throw new Error("Look at the list of files first.");
      say("Uploading …");
      const sent = await call("POST", "/api/hf/upload", body);
      let job = sent.result ? { state: "done" } : sent;
      while (job.state === "running") {
        await new Promise((done) => setTimeout(done, 1000));
        job = await call("GET", `/api/hf/uploads/${sent.job}`);
      }
      if (job.state !== "done") throw new Error(job.error ?? "The upload was interrupted; start it again.");
      location.reload();
    });
  });
}

// --- Keys: j and k walk through rows -----------------------------------------------------------------------------
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !["j", "k"].includes(event.key)) return;
  if (event.target instanceof HTMLElement && event.target.closest("input, textarea, select")) return;
  const links = /** @type {HTMLAnchorElement[]} */ ([...document.querySelectorAll(".rowlink")]);
  if (!links.length) return;
  const here = links.findIndex((link) => link.hasAttribute("aria-current"));
  const next = links[here + (event.key === "j" ? 1 : -1)];
  const page = document.querySelector(event.key === "j" ? "a[rel=next]" : "a[rel=prev]");
  const goal = next ?? page;
  if (goal instanceof HTMLAnchorElement) void go(goal.href);
});

/** Another row without a new page; the address can be shared all the same. @param {string} address */
async function go(address) {
  const reply = await fetch(address).catch(() => null);
  const found = reply?.ok ? new DOMParser().parseFromString(await reply.text(), "text/html").querySelector("main") : null;
  const main = document.querySelector("main");
  if (!found || !main) {
    location.assign(address);
    return;
  }
  history.replaceState(null, "", address);
  main.replaceChildren(...found.childNodes);
  document.querySelector(".rowlink[aria-current]")?.scrollIntoView({ block: "nearest" });
}
