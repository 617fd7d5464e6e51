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

  // --- tabs, and links: #protocol, #protocol/row, #protocol/row/row to compare
  const link = (...parts) => "#" + parts.map(encodeURIComponent).join("/");
  const home = (panel) => document.getElementById(panel.getAttribute("aria-labelledby"));
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
    bar.scrollLeft = tab.offsetLeft - tabs()[0].offsetLeft - 40;
    if (focus) tab.focus();
    document.querySelector(".lost").textContent = "";
    prepare(document.getElementById(tab.getAttribute("aria-controls")));
  }
  function bindTabs() {
    const found = tabs();
    found.forEach((tab, place) => {
      tab.addEventListener("click", (event) => {
        event.preventDefault();
        choose(tab, false);
        if (location.hash !== link(tab.dataset.name)) location.hash = link(tab.dataset.name);
      });
      tab.addEventListener("keydown", (event) => {
        const steps = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: -1 };
        if (!(event.key in steps)) return;
        event.preventDefault();
        const next = found.at(steps[event.key] % found.length);
        choose(next, true);
        history.replaceState(null, "", link(next.dataset.name));
      });
    });
    window.addEventListener("hashchange", follow);
    follow();
  }
  function follow() {
    document.querySelector("dialog[open]")?.close();
    mark([]);
    const parts = location.hash.slice(1).split("/").map(plain);
    const tab = tabs().find((one) => one.dataset.name === (parts[0] || "overview"));
    if (!tab) return followId(parts[0]);
    choose(tab, false);
    const panel = document.getElementById(tab.getAttribute("aria-controls"));
    if (parts.length === 2) showRow(panel, parts[1]);
    if (parts.length === 3) showPair(panel, parts[1], parts[2]);
  }
  function plain(part) {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  }
  function mark(rows) {
    for (const row of all("tr.marked")) row.classList.remove("marked");
    for (const row of rows) row.classList.add("marked");
  }
  // the rows of that name, or else all of that method, whatever its options
  const methodOf = (title) => [title.split(" ")[0], title.split(/[ +]/)[0]];
  function named(titles, name) {
    return titles.includes(name) ? (title) => title === name : (title) => methodOf(title).includes(name);
  }
  // a row stands in the table of all tasks and in blocks; all are marked, the first is shown
  function showRow(panel, name) {
    const cells = read().cells;
    const titles = new Map();
    for (const row of all("tbody tr", panel)) {
      const button = row.querySelector("button.cell");
      if (button) titles.set(row, cells[button.dataset.c]?.title || "");
    }
    const fits = named([...titles.values()], name);
    const rows = [...titles.keys()].filter((row) => fits(titles.get(row)));
    if (!rows.length) return say(panel, `no row ${name} here`);
    const major = rows.find((row) => !row.classList.contains("minor"));
    const first = major || rows[0];
    unfilter(panel, !major);
    mark(rows);
    if (titles.get(first) !== name) say(panel, `the rows of ${name}`);
    const block = first.closest("details");
    if (block) block.open = true;
    first.scrollIntoView({ block: "center" });
    first.querySelector("a, button").focus({ preventScroll: true });
  }
  // a link to a column, a card, or a tab without its name
  function followId(name) {
    const target = location.hash && document.getElementById(plain(location.hash.slice(1)));
    const panel = target && target.closest("[role=tabpanel]");
    choose(panel ? home(panel) : tabs()[0], false);
    if (!panel) {
      document.querySelector(".lost").textContent = `no records of ${name}`;
      return scrollTo(0, 0);
    }
    for (let box = target; box !== panel; box = box.parentElement) {
      if (box.tagName === "DETAILS") box.open = true;
    }
    if (target !== panel) target.scrollIntoView();
  }

  // --- tables
  const HOLE = Number.NEGATIVE_INFINITY;
  function figure(cell) {
    if (cell && cell.dataset.value) return parseFloat(cell.dataset.value);
    if (cell && cell.classList.contains("refused")) return HOLE;
    const found = cell && cell.textContent.replace(/−/g, "-").match(/[-+]?\d*\.?\d+/);
    return found ? parseFloat(found[0]) : HOLE;
  }
  function sort(button) {
    const head = button.closest("th");
    const table = head.closest("table");
    const place = head.cellIndex;
    const words = place === 0;
    // names from A on, and figures from the largest
    const up = words !== (head.getAttribute("aria-sort") === (words ? "ascending" : "descending"));
    const body = table.tBodies[0];
    const rows = Array.from(body.rows);
    const key = words ? (row) => row.cells[0].textContent.trim() : (row) => figure(row.cells[place]);
    const order = rows.map((row) => [key(row), row]);
    const sign = up ? 1 : -1;
    order.sort(([a], [b]) => {
      if (words) return sign * a.localeCompare(b, "en", { numeric: true });
      if (a === HOLE || b === HOLE) return (a === HOLE) - (b === HOLE);
      return sign * (a - b);
    });
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    body.append(...order.map(([, row]) => row));
  }
  function filter(panel) {
    const wanted = panel.querySelector(".filter input").value.toLowerCase().split(/\s+/);
    const minors = Boolean(panel.querySelector(".minor-switch")?.checked);
    panel.classList.toggle("minors", minors);
    let shown = 0;
    let total = 0;
    for (const row of all("table:not(.pairs) tbody tr", panel)) {
      // a card is found by its benchmark, too
      const text = (panel.id === "p-cards" ? row : row.cells[0]).textContent.toLowerCase();
      const fits = wanted.every((word) => text.includes(word));
      row.hidden = !fits;
      const counts = minors || !row.classList.contains("minor");
      total += counts ? 1 : 0;
      shown += counts && fits ? 1 : 0;
    }
    // what is found does not stay folded away
    for (const fold of all("details.fold", panel)) {
      if (shown < total && fold.querySelector("tbody tr:not([hidden])")) fold.open = true;
    }
    say(panel, shown < total ? `${shown} of ${total} rows` : "");
  }
  function say(panel, words) {
    const place = panel.querySelector(".found");
    if (place) place.textContent = words;
  }
  function unfilter(panel, minors) {
    panel.querySelector(".filter input").value = "";
    if (minors) panel.querySelector(".minor-switch").checked = true;
    filter(panel);
  }

  // what is wider than its box says so at its edges, and a table's first head by a word
  function edges(box) {
    const rest = box.scrollWidth - box.clientWidth - Math.abs(box.scrollLeft);
    box.classList.toggle("more", rest > 1);
    box.classList.toggle("less", Math.abs(box.scrollLeft) > 1);
  }
  function bindEdges() {
    const boxes = ".scroll, nav.tabs";
    const watched = new ResizeObserver((found) => {
      // what was taken out of the page is in no box
      new Set(found.map(({ target }) => target.closest(boxes))).forEach((box) => box && edges(box));
    });
    for (const box of all(boxes)) {
      watched.observe(box);
      // a box keeps its size when what is in it grows
      if (box.firstElementChild) watched.observe(box.firstElementChild);
    }
    const scrolled = ({ target }) => target instanceof Element && target.matches(boxes) && edges(target);
    document.addEventListener("scroll", scrolled, true);
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
    ["steps' MiB", (v) => Math.round(v / 2 ** 20).toLocaleString("en")],
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
  function show(number, panel) {
    const cell = read().cells[number];
    const box = document.querySelector("dialog .inside");
    const title = make("h2", cell.title);
    title.id = "run-title";
    const where = make("p", `${cell.where} `, "meta");
    const here = where.appendChild(make("a", "link to this row"));
    here.href = link(home(panel).dataset.name, cell.title);
    box.replaceChildren(title, where);
    if (cell.note) box.append(make("p", cell.note, "refused"));
    if (cell.remark) box.append(make("p", cell.remark, "meta"));
    if (data.detail) runs(box, cell);
    else brief(box, cell);
    const dialog = document.querySelector("dialog");
    dialog.showModal();
    dialog.scrollTop = 0;
    all(".scroll", dialog).forEach(edges);
  }
  function brief(box, cell) {
    box.append(make("p", `${cell.n} runs, among them ${cell.ids.join(", ")}. This shows them all:`));
    box.append(commands([`dabench leaderboard --html DIR --only ${cell.key}`]));
    box.append(make("p", "One run by itself:"), commands(cell.ids.map((id) => `dabench show ${id}`)));
  }
  function runs(box, cell) {
    const texts = read().texts;
    const told = (numbers) => numbers.map((number) => texts[number]);
    const command = told(cell.command).join(" --");
    const seeds = cell.runs.map((run) => `seed ${run.seed}`);
    const number = (value) => (value === null ? "–" : value.toFixed(4));
    box.append(make("h3", "Make them again"));
    const machines = new Map();
    for (const run of cell.runs) machines.set(run.own, [...(machines.get(run.own) || []), run.seed]);
    const seed = (found) => (found.length > 1 ? `--seeds ${found.join(",")}` : `--seed ${found[0]}`);
    box.append(commands(Array.from(machines, ([own, found]) => `${command} ${seed(found)} ${own}`)));
    box.append(make("h3", "Scores"));
    const scores = told(cell.metrics).map((name, place) => [
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
    const spec = [...cell.spec.map(told), ["versions (method/protocol)", cell.version]];
    box.append(details("Spec that they share", grid(["option", "value"], spec)));
  }

  // --- two rows, task by task: the paired t-intervals of dabench's tables
  const MIN_PAIRS = 5;
  const EQUAL = 1e-12;
  const signed = (v) => (v < 0 ? "" : "+") + fixed(v);
  const fixed = (v) => v.toFixed(3).replace("-", "−");
  const mean = (found) => found.reduce((a, b) => a + b, 0) / found.length;
  const spread = (found) => Math.max(...found) - Math.min(...found);
  function floats(text) {
    const bytes = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    return Array.from({ length: bytes.length / 8 }, (_, i) => view.getFloat64(8 * i, true));
  }
  function pair(ours, theirs, less) {
    // a hole in either makes a mean a hole; seeds are paired where both rows have a run
    if ([...ours, ...theirs].some(Number.isNaN)) return null;
    const seeds = ours.map((_, i) => i).filter((i) => isFinite(ours[i]) && isFinite(theirs[i]));
    const away = seeds.map((i) => ours[i] - theirs[i]);
    const n = away.length;
    if (!n) return null;
    const found = { n, mean: mean(away), verdict: `${n} pair${n > 1 ? "s" : ""}: no verdict` };
    if (n < MIN_PAIRS) {
      // few seeds have a range, and no verdict
      return n > 1 ? { ...found, low: Math.min(...away), high: Math.max(...away) } : found;
    }
    const sd = Math.sqrt(away.reduce((a, d) => a + (d - found.mean) ** 2, 0) / (n - 1));
    const half = (read().compare.t[n - 1] * sd) / Math.sqrt(n);
    [found.low, found.high] = [found.mean - half, found.mean + half];
    const varied = spread(seeds.map((i) => ours[i])) > EQUAL;
    if (spread(away) <= EQUAL) {
      found.verdict = varied && Math.abs(found.mean) <= EQUAL ? "tie" : "no spread: no verdict";
    } else if (found.low <= 0 && found.high >= 0) found.verdict = "tie";
    else found.verdict = found.mean > 0 !== Boolean(less) ? "win" : "loss";
    return found;
  }
  function strip(found, end) {
    const at = (value) => 70 + (66 * value) / end;
    const box = document.getElementById("strip").content.firstElementChild.cloneNode(true);
    const [, interval, dot] = box.children;
    dot.setAttribute("cx", at(found.mean));
    if (found.low === undefined) return box;
    interval.setAttribute("class", found.n < MIN_PAIRS ? "range" : "whisker");
    interval.setAttribute("x1", at(found.low));
    interval.setAttribute("x2", at(found.high));
    return box;
  }
  const SIGNS = { win: "▲", loss: "▼", tie: "=" };
  function compare(panel) {
    const known = read().compare.protocols[home(panel).dataset.name];
    const [a, b] = ["ours", "theirs"].map((name) => Number(panel.querySelector(`select.${name}`).value));
    const found = [];
    for (const task of known.tasks) {
      const [i, j] = [task.rows.indexOf(a), task.rows.indexOf(b)];
      if (i < 0 || j < 0) continue;
      const values = floats(task.values);
      const seeds = values.length / task.rows.length;
      const rows = [i, j].map((row) => values.slice(row * seeds, (row + 1) * seeds));
      const apart = (task.apart || []).some(([x, y]) => (x === a && y === b) || (x === b && y === a));
      found.push({ task, rows, apart, pair: apart ? null : pair(...rows, task.less) });
    }
    // source models of one task are averaged, and make a tie where they disagree
    const judged = new Map();
    for (const { task, pair: p } of found.filter((one) => one.pair)) {
      const own = judged.get(task.task) || { away: [], verdicts: new Set() };
      own.away.push((task.less ? -1 : 1) * p.mean);
      if (p.verdict in SIGNS) own.verdicts.add(p.verdict);
      judged.set(task.task, own);
    }
    const verdicts = Array.from(judged.values(), (own) => (own.verdicts.size > 1 ? "tie" : [...own.verdicts][0] || ""));
    const words = panel.querySelector(".compare .summary");
    const box = panel.querySelector(".compare .scroll");
    box.hidden = !found.length;
    if (a === b) words.textContent = "Twice the same row.";
    else if (!judged.size) words.textContent = "The two rows share no task.";
    else {
      const count = (verdict) => verdicts.filter((one) => one === verdict).length;
      const [wins, ties, losses, open] = ["win", "tie", "loss", ""].map(count);
      const lines = found.filter((one) => one.pair).length;
      const columns = lines > judged.size ? ` (${lines} columns: those of a task differ in their source seed, and are averaged)` : "";
      const over = mean(Array.from(judged.values(), (own) => mean(own.away)));
      words.textContent =
        `${known.rows[a]} against ${known.rows[b]} over ${judged.size} shared task${judged.size > 1 ? "s" : ""}${columns}: ` +
        `▲ ${wins} win${wins === 1 ? "" : "s"}, = ${ties} tie${ties === 1 ? "" : "s"}, ▼ ${losses} loss${losses === 1 ? "" : "es"}` +
        `${open ? `, ${open} without a verdict` : ""}; mean difference ${signed(over)}. Paired by seed.`;
    }
    box.replaceChildren(pairTable(found, [known.rows[a], known.rows[b]]));
    edges(box);
    return [known.rows[a], known.rows[b]];
  }
  function pairTable(found, names) {
    const table = make("table", null, "pairs");
    const line = table.createTHead().insertRow();
    for (const name of ["task", names[0], names[1], "difference", "[95 % interval] or range", "", "pairs", "verdict"]) {
      line.append(make("th", name));
    }
    const ends = found.flatMap(({ pair: p }) => (p ? [p.mean, p.low ?? 0, p.high ?? 0] : []));
    const end = Math.max(...ends.map(Math.abs), 0.01);
    const body = table.createTBody();
    for (const { task, rows, apart, pair: p } of found) {
      const row = body.insertRow();
      const name = row.appendChild(make("th"));
      const there = name.appendChild(make("a", document.getElementById(task.block).querySelector(".name").textContent));
      there.href = `#${task.block}`;
      for (const values of rows) {
        const own = values.filter((value) => value !== Infinity);
        row.append(make("td", own.some(Number.isNaN) ? "–" : fixed(mean(own))));
      }
      if (!p) {
        row.append(make("td", "–", "hole"), ...Array.from({ length: 3 }, () => make("td")));
        row.append(make("td", apart ? "other version" : "", "none"));
        continue;
      }
      const sign = SIGNS[p.verdict];
      row.append(make("td", signed(p.mean), sign ? p.verdict : "none"));
      const limits = p.low === undefined ? [] : [signed(p.low), signed(p.high)];
      if (p.n < MIN_PAIRS) row.append(make("td", limits.join(" – "), "range"));
      else row.append(make("td", `[${limits.join(", ")}]`));
      const picture = row.appendChild(make("td", null, "pic"));
      picture.append(strip(p, end));
      row.append(make("td", p.n), make("td", `${sign || ""} ${p.verdict}`.trim(), sign ? p.verdict : "none"));
    }
    return table;
  }
  // the rows to choose from, once the tab is seen
  function prepare(panel) {
    const selects = all(".compare select", panel);
    if (!selects.length || selects[0].options.length) return;
    const known = read().compare.protocols[home(panel).dataset.name];
    panel.querySelector(".compare").hidden = known.rows.length < 2;
    if (known.rows.length < 2) return;
    selects.forEach((select, place) => {
      const minors = make("optgroup");
      minors.label = "with changed options";
      known.rows.forEach((name, number) => {
        (number < known.main ? select : minors).append(new Option(name, number));
      });
      if (minors.childElementCount) select.append(minors);
      select.value = known.pair[place];
      select.addEventListener("change", () => {
        history.replaceState(null, "", link(home(panel).dataset.name, ...compare(panel)));
      });
    });
    compare(panel);
  }
  function showPair(panel, ...names) {
    const { rows, tasks } = read().compare.protocols[home(panel).dataset.name] || { rows: [], tasks: [] };
    // of a method's rows the one with most tasks
    const width = rows.map((_, number) => tasks.filter((task) => task.rows.includes(number)).length);
    const places = names.map((name) => {
      const fits = named(rows, name);
      const found = width.map((wide, number) => (fits(rows[number]) ? wide : -1));
      return Math.max(...found) < 0 ? -1 : found.indexOf(Math.max(...found));
    });
    const missing = names[places.indexOf(-1)];
    if (missing !== undefined) return say(panel, `no row ${missing} to compare here`);
    all(".compare select", panel).forEach((select, place) => (select.value = places[place]));
    compare(panel);
    panel.querySelector(".compare").scrollIntoView();
    panel.querySelector(".compare select").focus({ preventScroll: true });
  }

  // --- what a title tells a mouse, for keys and fingers
  function bindTips() {
    const tip = document.body.appendChild(make("div"));
    tip.id = "tip";
    let from = null;
    const place = () => {
      tip.hidden = !from;
      if (!from) return;
      tip.textContent = from.title;
      const box = from.getBoundingClientRect();
      const below = window.innerHeight - box.bottom > tip.offsetHeight + 12;
      tip.style.left = `${Math.max(8, Math.min(box.left, window.innerWidth - tip.offsetWidth - 8))}px`;
      tip.style.top = `${below ? box.bottom + 6 : box.top - tip.offsetHeight - 6}px`;
    };
    const tell = (element) => {
      from = element;
      place();
    };
    tell(null);
    document.addEventListener("focusin", (event) => {
      const on = event.target;
      tell(on.matches(":focus-visible, abbr, .chip") ? on.closest("[title]") : null);
    });
    document.addEventListener("focusout", () => tell(null));
    document.addEventListener("scroll", place, true);
    document.addEventListener("keydown", (event) => event.key === "Escape" && tell(null));
  }

  // --- all together
  function bind() {
    bindTabs();
    bindEdges();
    bindTips();
    document.addEventListener("click", (event) => {
      const target = event.target;
      if (!(target instanceof Element)) return;
      const row = target.closest("main tbody tr");
      if (target.closest("abbr")) return;
      const button = target.closest("button.cell") || (row && row.closest(".block") && row.querySelector("button.cell"));
      if (target.closest("button.sort")) sort(target.closest("button.sort"));
      else if (button && getSelection().isCollapsed) show(Number(button.dataset.c), button.closest("[role=tabpanel]"));
      else if (target.closest("button.all")) openAll(target.closest("button.all"));
      else if (target.tagName === "DIALOG") target.close();
      // a link to where the page already is changes no address
      else if (target.closest("a")?.hash && target.closest("a").hash === location.hash) follow();
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
