"use strict";
// Filters, searches and links the rows of this page. All text is set as text, never as markup.
(() => {
  const data = JSON.parse(document.getElementById("rows-data").textContent);
  const at = (id) => document.getElementById(id);
  const [browser, chips, found, list, more] = ["browser", "chips", "found", "list", "more"].map(at);
  const [who, slice, search] = ["who", "slice", "search"].map(at);
  const PAGE = 10;
  const RIGHT = document.body.dataset.right; // "right", or "as logged" where the answers are those of a log
  const WRONG = RIGHT === "right" ? "wrong" : `not ${RIGHT}`;
  const GLYPHS = {
    "=": ["=", "as gold: ", "same"], "~": ["≈", `counts as ${RIGHT === "right" ? RIGHT : "the same"}: `, "alike"], x: ["≠", "differs: ", "parted"],
    m: ["∅", "missing", "parted"], "+": ["+", "not in gold: ", "parted"], "-": ["", "left out, as it may be", "same"],
  };
  const STATES = { r: RIGHT, w: `not ${RIGHT}`, i: "cannot be read", f: "filtered or refused", e: "no answer" };
  const state = { chip: "", shown: PAGE, only: null };
  const other = () => (who ? Number(who.value) : 1);
  const name = () => data.labels[other()];

  // Kinds of rows: teacher's and contender's states in, yes or no out. A kind without rows has no button.
  const KINDS = [
    ["all", () => "All", () => true],
    ["differ", () => "They differ", (t, c) => (t === "r") !== (c === "r")],
    ["contender", () => `${name()} ${WRONG}`, (t, c) => c !== "r"],
    ["teacher", () => `Teacher ${WRONG}`, (t) => t !== "r"],
    ["both", () => `Both ${WRONG}`, (t, c) => t !== "r" && c !== "r"],
    ["invalid", () => "Unreadable", (t, c) => t === "i" || c === "i"],
    ["filtered", () => "Filtered or refused", (t, c) => t === "f" || c === "f"],
    ["error", () => "No answer", (t, c) => t === "e" || c === "e"],
    ["gold", () => "Look at gold", (t, c, row) => Boolean(row.n)],
  ];
  const asks = (kind, row) => kind[2](row.s[0], row.s[other()], row);

  function make(tag, className, content) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (content !== undefined) element.textContent = content;
    return element;
  }

  function cell(value, column, fields) {
    const td = make("td");
    td.dataset.head = data.labels[column];
    const inside = td.appendChild(make("span"));
    if (value === null) {
      td.className = "unread";
      td.rowSpan = fields;
      inside.textContent = "no readable reply";
      return td;
    }
    const [glyph, says, kind] = GLYPHS[value === 0 ? "=" : value[0]];
    td.className = kind;
    const mark = inside.appendChild(make("span", "glyph", glyph));
    mark.setAttribute("aria-hidden", "true");
    inside.append(" ", make("span", "hidden", value === 0 ? "as gold" : says), value === 0 ? "" : value[1]);
    return td;
  }

  function fieldsOf(row) {
    if (!row.f.length) return make("p", "sub pad", RIGHT === "right" ? "No call is right here." : "No call was logged here.");
    const table = make("table");
    table.append(make("caption", "hidden", `Fields of row ${row.id}`));
    const head = table.appendChild(make("thead")).appendChild(make("tr"));
    for (const label of ["Field", "Gold", ...data.labels]) {
      const th = head.appendChild(make("th", "", label));
      th.scope = "col";
    }
    const body = table.appendChild(make("tbody"));
    row.f.forEach(([path, gold, cells], place) => {
      const tr = body.appendChild(make("tr"));
      tr.appendChild(make("th", "", path)).scope = "row";
      const right = tr.appendChild(make("td"));
      right.dataset.head = "Gold";
      right.append(make("span", "", gold || "not in gold"));
      cells.forEach((value, index) => {
        if (value !== null || place === 0) tr.append(cell(value, index, row.f.length));
      });
    });
    return table;
  }

  function fold(title, parts) {
    const details = make("details");
    details.append(make("summary", "", title));
    const inside = details.appendChild(make("div"));
    for (const [label, content] of parts) {
      inside.append(make("p", "label", label));
      inside.appendChild(make("pre", "", content || "(nothing)")).tabIndex = 0;
    }
    return details;
  }

  function card(row) {
    const article = make("article", "row");
    article.setAttribute("aria-label", `Row ${row.id}`);
    article.append(make("p", "ask", row.q || "(no question)"));
    const marks = article.appendChild(make("ul", "marks"));
    const link = marks.appendChild(make("li")).appendChild(make("a", "", row.id));
    link.href = `#row=${encodeURIComponent(row.id)}`;
    data.labels.forEach((label, index) => {
      const right = row.s[index] === "r";
      const why = row.w && row.w[index] !== null ? data.reasons[row.w[index]] : STATES[row.s[index]];
      const part = row.v && row.v[index] ? ` (${row.v[index]})` : "";
      marks.append(make("li", right ? "fine" : "bad", `${label} ${right ? `✓ ${RIGHT}` : `✗ ${why}`}${part}`));
    });
    for (const note of row.n || []) article.append(make("p", "note", data.notes[note]));
    article.append(fieldsOf(row));
    if (row.x) article.append(make("p", "sub pad", `${row.x} more fields are not shown.`));
    const prompt = (row.m || []).map(([role, place]) => [role, data.texts[place]]);
    if (row.t !== undefined) prompt.push(["tools", data.texts[row.t]]);
    if (prompt.length) article.append(fold("The rest of the prompt", prompt));
    if (row.r) article.append(fold("Raw replies", row.r.map((reply, index) => [data.labels[index], reply])));
    return article;
  }

  const texts = new Map();
  function textOf(row) {
    if (!texts.has(row)) {
      const said = row.f.flatMap(([path, gold, cells]) => [path, gold, ...cells.map((value) => (value ? value[1] : ""))]);
      texts.set(row, [row.id, row.q, ...said, ...(row.r || [])].join("\n").toLowerCase());
    }
    return texts.get(row);
  }

  function chosen(kind) {
    const words = search.value.trim().toLowerCase();
    const part = slice && slice.value !== "" ? Number(slice.value) : null;
    return data.rows.filter(
      (row) => asks(kind, row) && (part === null || row.k.includes(part)) && (!words || textOf(row).includes(words)),
    );
  }

  function draw() {
    chips.replaceChildren();
    for (const kind of KINDS) {
      const count = chosen(kind).length;
      if (!data.rows.some((row) => asks(kind, row))) continue;
      const button = chips.appendChild(make("button", "", `${kind[1]()} ${count.toLocaleString("en")}`));
      button.type = "button";
      button.setAttribute("aria-pressed", String(!state.only && kind[0] === state.chip));
      button.addEventListener("click", () => show({ chip: kind[0] }));
    }
    const kind = KINDS.find(([key]) => key === state.chip);
    const rows = state.only ? data.rows.filter((row) => row.id === state.only) : chosen(kind);
    list.replaceChildren(...rows.slice(0, state.shown).map(card));
    const all = data.rows.length + data.left_out;
    if (state.only) {
      found.textContent = rows.length ? "One row, as linked. " : `No row ${state.only} on this page. `;
      const back = found.appendChild(make("button", "", "Show all rows"));
      back.type = "button";
      back.addEventListener("click", () => {
        history.replaceState(null, "", "#rows");
        show({});
      });
    } else {
      const shown = Math.min(state.shown, rows.length).toLocaleString("en");
      found.textContent = `${rows.length.toLocaleString("en")} of ${all.toLocaleString("en")} rows, ${shown} shown`;
    }
    more.hidden = rows.length <= state.shown;
  }

  function show(change) {
    Object.assign(state, { shown: PAGE, only: null }, change);
    draw();
  }

  function follow() {
    const [, id] = /^#row=(.*)$/.exec(location.hash) || [];
    if (id === undefined) return;
    try {
      show({ only: decodeURIComponent(id) });
    } catch {
      return; // the address was cut or typed by hand
    }
    at("rows").scrollIntoView();
  }

  more.addEventListener("click", () => {
    const before = list.childElementCount;
    state.shown += PAGE;
    draw();
    list.children[before]?.querySelector("a").focus();
  });
  search.addEventListener("input", () => show({}));
  for (const select of [who, slice]) select?.addEventListener("change", () => show({}));
  for (const link of document.querySelectorAll("a[data-slice]")) {
    link.addEventListener("click", () => {
      const place = data.slices.indexOf(link.dataset.slice);
      if (!slice || place < 0) return;
      slice.value = String(place);
      show({ chip: "contender" });
    });
  }
  window.addEventListener("hashchange", follow);
  document.documentElement.classList.add("live");
  browser.hidden = false;
  if (who) who.value = String(data.decisive);
  state.chip = ["differ", "contender", "all"].find((key) => chosen(KINDS.find(([other]) => other === key)).length) || "all";
  draw();
  follow();
})();
