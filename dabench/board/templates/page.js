// Tabs, sorting, filtering and dialogs of dabench's pages. Everything that comes from a record is
// set as text, never as markup.
"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const all = (selector, from) => Array.from((from || document).querySelectorAll(selector));
  const make = (tag, words, name) => {
    const element = document.createElement(tag);
    if (words !== undefined && words !== null) element.textContent = String(words);
    if (name) element.className = name;
    return element;
  };

  // --- tabs
  const tabs = () => all("[role=tab]");
  function choose(tab, focus) {
    for (const other of tabs()) {
      const on = other === tab;
      other.setAttribute("aria-selected", on ? "true" : "false");
      other.tabIndex = on ? 0 : -1;
      document.getElementById(other.getAttribute("aria-controls")).classList.toggle("on", on);
    }
    // of many tabs on a narrow screen the chosen one is seen
    const bar = tab.parentElement;
    if (bar.scrollWidth > bar.clientWidth) bar.scrollLeft = tab.offsetLeft - 14;
    if (focus) tab.focus();
  }
  function bindTabs() {
    const found = tabs();
    found.forEach((tab, place) => {
      tab.addEventListener("click", (event) => {
        event.preventDefault();
        choose(tab, false);
        history.replaceState(null, "", tab.hash);
      });
      tab.addEventListener("keydown", (event) => {
        const steps = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: -1 };
        if (!(event.key in steps)) return;
        event.preventDefault();
        const next = found.at(steps[event.key] % found.length);
        choose(next, true);
        history.replaceState(null, "", next.hash);
      });
    });
    window.addEventListener("hashchange", follow);
    follow();
  }
  // a link to a tab or to a column within one
  function follow() {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    const panel = target && target.closest("[role=tabpanel]");
    if (!panel) return;
    choose(document.getElementById(panel.getAttribute("aria-labelledby")), false);
    if (target.tagName === "DETAILS") target.open = true;
    if (target !== panel) target.scrollIntoView();
  }

  // --- tables
  const HOLE = Number.NEGATIVE_INFINITY;
  function figure(cell) {
    const found = cell && cell.textContent.replace(/−/g, "-").match(/[-+]?\d*\.?\d+/);
    return found ? parseFloat(found[0]) : HOLE;
  }
  function sort(button) {
    const head = button.closest("th");
    const table = head.closest("table");
    const place = head.cellIndex;
    const up = head.getAttribute("aria-sort") === "descending";
    const body = table.tBodies[0];
    const rows = Array.from(body.rows);
    const words = place === 0;
    const key = words ? (row) => row.cells[0].textContent.trim() : (row) => figure(row.cells[place]);
    const order = rows.map((row) => [key(row), row]);
    const sign = up ? 1 : -1;
    order.sort(([a], [b]) => {
      if (words) return sign * -1 * a.localeCompare(b, "en", { numeric: true });
      if (a === HOLE || b === HOLE) return (a === HOLE) - (b === HOLE);
      return sign * (a - b);
    });
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    body.append(...order.map(([, row]) => row));
  }
  function filter(panel) {
    const wanted = panel.querySelector(".filter input").value.toLowerCase().split(/\s+/);
    const minors = panel.querySelector(".minor-switch");
    const minor = !minors || minors.checked;
    let shown = 0;
    let total = 0;
    for (const row of all("tbody tr", panel)) {
      const text = row.cells[0].textContent.toLowerCase();
      const fits = wanted.every((word) => text.includes(word));
      row.hidden = !(fits && (minor || !row.classList.contains("minor")));
      total += 1;
      shown += row.hidden ? 0 : 1;
    }
    panel.querySelector(".found").textContent = shown < total ? `${shown} of ${total} rows` : "";
  }

  // --- the runs of a cell
  let data = null;
  const read = () => (data = data || JSON.parse(document.getElementById("data").textContent));
  const COSTS = [
    ["images forward", (v) => v.toLocaleString("en")],
    ["images backward", (v) => v.toLocaleString("en")],
    ["adapt s", (v) => v.toFixed(1)],
    ["total s", (v) => v.toFixed(1)],
    ["peak MiB", (v) => Math.round(v / 2 ** 20).toLocaleString("en")],
  ];
  function grid(head, rows) {
    const box = make("div", null, "scroll");
    box.tabIndex = 0;
    const table = box.appendChild(make("table"));
    const line = table.createTHead().insertRow();
    for (const name of head) line.append(make("th", name));
    const body = table.createTBody();
    for (const row of rows) {
      const made = body.insertRow();
      row.forEach((value, place) => made.append(make(place ? "td" : "th", value)));
    }
    return box;
  }
  function commands(lines) {
    const box = make("div", null, "command");
    const text = box.appendChild(make("pre"));
    lines.forEach((line, place) => {
      if (place) text.append("\n");
      // a word of its own for each, so that no line breaks within --an-option
      line.split(" ").forEach((word, at) => text.append(at ? " " : "", make("span", word)));
    });
    const button = box.appendChild(make("button", "Copy", "plain"));
    button.type = "button";
    button.addEventListener("click", () => {
      getSelection().selectAllChildren(text);
      const done = document.execCommand && document.execCommand("copy");
      button.textContent = done ? "Copied" : "Selected";
    });
    return box;
  }
  function details(title, inside, open) {
    const box = make("details");
    box.open = Boolean(open);
    box.append(make("summary", title), inside);
    return box;
  }
  function show(number) {
    const cell = read().cells[number];
    const box = document.querySelector("dialog .inside");
    const title = make("h2", cell.title);
    title.id = "run-title";
    box.replaceChildren(title, make("p", cell.where, "meta"));
    if (cell.note) box.append(make("p", cell.note, "refused"));
    if (data.detail) runs(box, cell);
    else brief(box, cell);
    const dialog = document.querySelector("dialog");
    dialog.showModal();
    dialog.scrollTop = 0;
  }
  function brief(box, cell) {
    box.append(make("p", `${cell.n} runs, among them ${cell.ids.join(", ")}. This shows them all:`));
    box.append(commands([`dabench leaderboard --html DIR --only ${cell.key}`]));
    box.append(make("p", "One run by itself:"), commands(cell.ids.map((id) => `dabench show ${id}`)));
  }
  function runs(box, cell) {
    const texts = read().texts;
    const seeds = cell.runs.map((run) => `seed ${run.seed}`);
    const number = (value) => (value === null ? "–" : value.toFixed(4));
    box.append(make("h3", "Make them again"));
    const machines = new Map();
    for (const run of cell.runs) machines.set(run.own, [...(machines.get(run.own) || []), run.seed]);
    const seed = (found) => (found.length > 1 ? `--seeds ${found.join(",")}` : `--seed ${found[0]}`);
    box.append(commands(Array.from(machines, ([own, found]) => `${cell.command} ${seed(found)} ${own}`)));
    box.append(make("h3", "Scores"));
    const scores = cell.metrics.map((name, place) => [
      name,
      ...cell.runs.map((run) => number(run.scores[place])),
    ]);
    box.append(grid(["metric", ...seeds], scores));
    const cost = cell.runs.map((run) => [
      run.seed,
      run.id,
      texts[run.commit] || "–",
      ...run.cost.map((value, place) => (value === null ? "–" : COSTS[place][1](value))),
    ]);
    box.append(make("h3", "Runs"));
    box.append(grid(["seed", "run id", "commit", ...COSTS.map(([name]) => name)], cost));
    const kept = cell.runs.filter((run) => run.model);
    if (kept.length) {
      const line = box.appendChild(make("p", "Adapted models: ", "meta"));
      for (const run of kept) {
        const link = make("a", `seed ${run.seed}`);
        link.href = `${run.model}/`;
        line.append(link, " ");
      }
    }
    const ids = cell.runs.map((run) => [run.seed, ...run.ids.map((id) => texts[id] || "–")]);
    box.append(details("Digests of data, stream and source model", grid(["seed", "data", "stream", "source model"], ids)));
    const spec = [...cell.spec, ["versions (method/protocol)", cell.version]];
    box.append(details("Spec that they share", grid(["option", "value"], spec)));
  }

  // --- all together
  function bind() {
    bindTabs();
    document.addEventListener("click", (event) => {
      const target = event.target;
      if (!(target instanceof Element)) return;
      const row = target.closest("main tbody tr");
      const button = target.closest("button.cell") || (row && row.closest(".block") && row.querySelector("button.cell"));
      if (target.closest("button.sort")) sort(target.closest("button.sort"));
      else if (button && getSelection().isCollapsed) show(Number(button.dataset.c));
      else if (target.closest("button.all")) openAll(target.closest("button.all"));
      else if (target.tagName === "DIALOG") target.close();
    });
    for (const panel of all("[role=tabpanel]")) {
      panel.querySelector(".filter input")?.addEventListener("input", () => filter(panel));
      panel.querySelector(".minor-switch")?.addEventListener("change", () => filter(panel));
    }
    document.addEventListener("change", (event) => {
      const line = event.target.dataset && event.target.dataset.line;
      if (line === undefined) return;
      const path = event.target.closest("figure").querySelector(`path[data-line="${line}"]`);
      path.classList.toggle("off", !event.target.checked);
    });
  }
  function openAll(button) {
    const panel = button.closest("[role=tabpanel]");
    for (const block of all("details.block", panel)) block.open = Boolean(button.dataset.open);
  }
  document.addEventListener("DOMContentLoaded", bind);
})();
