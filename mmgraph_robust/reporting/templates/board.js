"use strict";
// The leaderboard: choose a threat, filter, sort, link to what is seen. Without this script the page's own table stands.
(() => {
  const find = (id) => document.getElementById(id);
  const data = JSON.parse(find("board-data").textContent);
  const body = find("board").tBodies[0];
  const given = [...body.rows];
  const rows = [];
  for (const row of given) rows[Number(row.dataset.line)] = row;
  const selects = ["dataset", "model", "defense", "threat", "attack"].map((name) => find("choose-" + name)).filter(Boolean);
  const filters = selects.slice(0, 3);
  const [threat, attack] = selects.slice(3);
  const headers = [...document.querySelectorAll("#board th[data-sort]")];
  const WORST = "each line's worst";
  const MISSING = "\u2013";
  let runs = new Map();
  let sorted = null;

  // --- numbers as the page writes them ---

  const number = (value, spread) => value.toFixed(4) + (spread === null ? "" : ` \u00b1\u00a0${spread.toFixed(4)}`);

  const change = (value, spread) => {
    const size = Math.abs(value).toFixed(1);
    const sign = size === "0.0" ? "" : value < 0 ? "\u2212" : "+";
    return sign + size + (spread === null ? "" : ` \u00b1\u00a0${spread.toFixed(1)}`) + "\u00a0%";
  };

  // --- what was run under the chosen threat ---

  const readRun = ([line, value, spread, loss, lossSpread, seeds, doubts, remarks, below], name) =>
    [line, { value, spread, loss, lossSpread, seeds, doubts, remarks, below, name }];

  function offerAttacks() {
    const wanted = attack.value;
    const chosen = data.threats.find(([name]) => name === threat.value);
    const names = chosen[1].map((index) => data.attacks[index]);
    const offered = names.length > 1 ? [...names, WORST] : names;
    attack.replaceChildren(...offered.map((name) => new Option(name, name)));
    attack.value = offered.includes(wanted) ? wanted : offered[offered.length - 1];
  }

  function chooseRuns() {
    runs = new Map();
    if (!threat) return;
    const place = data.threats.findIndex(([name]) => name === threat.value);
    for (const index of data.threats[place][1]) {
      const name = data.attacks[index];
      const wanted = attack.value === WORST ? !data.controls.includes(index) : attack.value === name;
      for (const run of (wanted && data.runs[`${place} ${index}`]) || []) {
        const [line, found] = readRun(run, name);
        if (!runs.has(line) || found.value < runs.get(line).value) runs.set(line, found);
      }
    }
  }

  // --- the table ---

  function element(tag, text, kind) {
    const made = document.createElement(tag);
    made.textContent = text;
    if (kind) made.className = kind;
    return made;
  }

  function reasons(mark, texts) {
    const made = element("details", "", "flag");
    const list = document.createElement("ul");
    list.append(...texts.map((index) => element("li", data.texts[index])));
    made.append(element("summary", mark), list);
    return made;
  }

  function notesOn(line, run, card) {
    const notes = [];
    if (run) {
      if (attack.value === WORST) notes.push(element("span", run.name));
      if (run.doubts.length) notes.push(reasons("\u2020 unreliable", run.doubts));
      if (run.remarks.length) notes.push(reasons("why", run.remarks));
      if (run.seeds < line.seeds) notes.push(element("span", `${run.seeds} of ${line.seeds} seeds`));
      if (run.below) notes.push(element("span", run.below));
    }
    if (line.doubtful && !(run && run.doubts.length)) {
      const link = element("a", `\u2020 under ${line.doubtful} other${line.doubtful > 1 ? "s" : ""}`);
      link.href = card;
      notes.push(link);
    }
    return notes;
  }

  function fill(row, index) {
    const line = data.lines[index];
    if (!line.reads || !threat) return;
    const run = runs.get(index);
    const left = row.querySelector(".left");
    const loss = row.querySelector(".change");
    left.textContent = run ? number(run.value, run.spread) + (run.doubts.length ? " \u2020" : "") : "not run";
    const known = run && run.loss !== null;
    loss.querySelector("span").textContent = known ? change(run.loss, run.lossSpread) : MISSING;
    loss.classList.toggle("loss", Boolean(known && run.loss <= -0.05));
    loss.classList.toggle("gain", Boolean(known && run.loss >= 0.05));
    const kept = run && line.clean ? Math.max(0, Math.min(100, 100 * run.value / line.clean)) : 0;
    loss.classList.toggle("unknown", !known);
    loss.querySelector("rect").setAttribute("width", kept.toFixed(1));
    row.classList.toggle("doubtful", Boolean(run && run.doubts.length));
    row.querySelector(".remarks").replaceChildren(...notesOn(line, run, row.querySelector("th a").hash));
  }

  function passes(row) {
    return filters.every((select) => !select.value || row.dataset[select.name] === select.value);
  }

  function sortKey(row, name) {
    const index = Number(row.dataset.line);
    const line = data.lines[index];
    const run = runs.get(index);
    if (name === "clean" || name === "seeds") return line[name];
    if (name === "left") return run ? run.value : null;
    if (name === "change") return run ? run.loss : null;
    return row.dataset[name];
  }

  const left = (row) => sortKey(row, "left");

  // Without a wish: data set by data set, the most left first, models that read no features last.
  function standing(row) {
    const place = given.findIndex((other) => other.dataset.dataset === row.dataset.dataset);
    return 2 * place + (data.lines[Number(row.dataset.line)].reads ? 0 : 1);
  }

  function sortRows() {
    let order = [...given].sort((a, b) => standing(a) - standing(b) || (left(b) ?? -1) - (left(a) ?? -1));
    if (sorted) {
      const sign = sorted.descending ? -1 : 1;
      // What is missing comes last in both directions.
      order = [...body.rows].map((row) => [sortKey(row, sorted.name), row]).sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null);
        return sign * (typeof a === "number" ? a - b : a.localeCompare(b));
      }).map(([, row]) => row);
    }
    body.append(...order);
    for (const header of headers) {
      const own = sorted && header.dataset.sort === sorted.name;
      header.setAttribute("aria-sort", own ? (sorted.descending ? "descending" : "ascending") : "none");
    }
  }

  // --- the scatter ---

  function drawScatter(svg) {
    const { top, upper, lower } = svg.dataset;
    const places = new Map();
    for (const mark of svg.querySelectorAll("g[data-line]")) {
      const index = Number(mark.dataset.line);
      const run = runs.get(index);
      const seen = Boolean(run) && !rows[index].hidden;
      mark.classList.toggle("away", !seen);
      if (!seen) continue;
      const y = lower - (lower - upper) * run.value / top;
      places.set(index, [mark.dataset.x, y]);
      mark.style.transform = `translate(${mark.dataset.x}px, ${y.toFixed(1)}px)`;
      mark.classList.toggle("doubtful", run.doubts.length > 0);
      mark.querySelector("title").textContent = `${mark.dataset.name}: ${data.lines[index].clean.toFixed(4)} to ${run.value.toFixed(4)}`;
    }
    for (const line of svg.querySelectorAll("line[data-start]")) {
      const ends = [line.dataset.start, line.dataset.end].map((index) => places.get(Number(index)));
      line.classList.toggle("away", !ends.every(Boolean));
      if (!ends.every(Boolean)) continue;
      ends.forEach(([x, y], end) => {
        line.setAttribute(`x${end + 1}`, x);
        line.setAttribute(`y${end + 1}`, y);
      });
    }
  }

  // --- all of it, and its address ---

  function show() {
    chooseRuns();
    rows.forEach((row, index) => {
      fill(row, index);
      row.hidden = !passes(row);
    });
    sortRows();
    const seen = rows.filter((row) => !row.hidden).length;
    find("count").textContent = `${seen} of ${rows.length} shown`;
    if (threat) {
      for (const place of document.querySelectorAll(".case")) place.textContent = `${attack.value} on ${threat.value}`;
    }
    document.querySelectorAll("svg.scatter").forEach(drawScatter);
  }

  function address() {
    const state = new URLSearchParams();
    for (const select of selects) {
      if (select.value !== select.dataset.first) state.set(select.name, select.value);
    }
    if (sorted) state.set("sort", (sorted.descending ? "-" : "") + sorted.name);
    const text = state.toString();
    return text ? `#${text}` : location.href.split("#")[0];
  }

  function changed() {
    show();
    history.replaceState(null, "", address());
  }

  function setSelect(select, value) {
    const known = [...select.options].some((option) => option.value === value);
    select.value = known ? value : select.dataset.first;
  }

  function restore(text) {
    const state = new URLSearchParams(text);
    for (const select of selects) {
      if (select === attack) offerAttacks();
      setSelect(select, state.get(select.name) ?? select.dataset.first);
      if (select.selectedIndex < 0) select.selectedIndex = 0;
    }
    const wish = state.get("sort") ?? "";
    const name = wish.replace(/^-/, "");
    const known = headers.some((header) => header.dataset.sort === name);
    sorted = known ? { name, descending: wish.startsWith("-") } : null;
    show();
  }

  function reveal(target) {
    for (let place = target; place; place = place.parentElement) {
      if (place.tagName === "DETAILS") place.open = true;
    }
    target.scrollIntoView();
    const summary = target.closest("details")?.querySelector("summary");
    if (summary) summary.focus({ preventScroll: true });
  }

  function follow() {
    const text = location.hash.slice(1);
    const target = text && find(text);
    if (target) reveal(target);
    else if (!text) restore("");
    else if (text.includes("=")) {
      restore(text);
      find("leaderboard").scrollIntoView();
    }
  }

  for (const header of headers) {
    const button = element("button", header.textContent.trim());
    button.type = "button";
    const numeric = header.classList.contains("number");
    button.addEventListener("click", () => {
      const again = sorted && sorted.name === header.dataset.sort;
      sorted = { name: header.dataset.sort, descending: again ? !sorted.descending : numeric };
      changed();
    });
    header.replaceChildren(button);
  }
  for (const select of selects) {
    select.addEventListener("change", () => {
      if (select === threat) offerAttacks();
      changed();
    });
  }
  find("reset").addEventListener("click", () => {
    restore("");
    history.replaceState(null, "", address());
  });
  window.addEventListener("hashchange", follow);
  find("controls").hidden = false;
  restore("");
  follow();
})();
