"use strict";
// Draws the grids of the tasks that are looked at, opens tasks, and filters the gallery.
// Texts from the data reach the page as text nodes only.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const cards = [...document.querySelectorAll(".card")];
  const digits = document.getElementById("digits");
  let printing = false; // on paper, which is often grey, every cell that has room for its digit gets it
  const THUMB = 84, GRID = 148, CHOICE = 64; // largest side of a grid in CSS pixels

  // --- Elements

  function el(tag, className, ...children) {
    const node = document.createElement(tag);
    if (className) node.className = className;
    node.append(...children.filter((child) => child !== null));
    return node;
  }

  function figure(node, ...caption) {
    return el("figure", "", node, el("figcaption", "", ...caption));
  }

  function facts(pairs) {
    const list = el("dl", "facts");
    for (const [name, value] of pairs) list.append(el("dt", "", name), el("dd", "", value));
    return list;
  }

  // --- Grids: a digit a cell, rows apart by "/"

  const rowsOf = (text) => text.split("/");
  const shapeOf = (text) => `${rowsOf(text).length}×${rowsOf(text)[0].length}`;

  /// A canvas of height × width cells; `paint(context, row, column, x, y, size)` fills one. Sizes are device pixels.
  function canvas(height, width, side, paint, label) {
    const ratio = Math.max(1, window.devicePixelRatio || 1);
    const roomy = Math.min(side, 26 * Math.max(height, width)); // a small grid needs no huge cells
    const cell = Math.max(2, Math.floor((roomy * ratio) / Math.max(height, width)));
    const line = cell >= 5 * ratio ? Math.round(ratio) : 0;
    const node = el("canvas");
    node.width = width * cell + line;
    node.height = height * cell + line;
    node.style.width = `${node.width / ratio}px`;
    node.style.height = `${node.height / ratio}px`;
    node.setAttribute("role", "img");
    node.setAttribute("aria-label", label);
    const context = node.getContext("2d");
    for (let row = 0; row < height; row++) {
      for (let column = 0; column < width; column++) {
        paint(context, row, column, column * cell, row * cell, cell);
      }
    }
    context.fillStyle = data.lines;
    for (let i = 0; line && i <= height; i++) context.fillRect(0, i * cell, node.width, line);
    for (let i = 0; line && i <= width; i++) context.fillRect(i * cell, 0, line, node.height);
    return node;
  }

  function write(context, color, x, y, size) {
    if (!(digits.checked || printing) || size < 9) return;
    const [r, g, b] = [1, 3, 5].map((at) => parseInt(data.palette[color].slice(at, at + 2), 16));
    context.fillStyle = 299 * r + 587 * g + 114 * b > 128000 ? "#000" : "#fff";
    context.font = `${Math.round(size * 0.62)}px monospace`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillText(color, x + size / 2, y + size / 2 + 1);
  }

  function grid(text, side) {
    const rows = rowsOf(text);
    return canvas(rows.length, rows[0].length, side, (context, row, column, x, y, size) => {
      const color = rows[row][column];
      context.fillStyle = data.palette[color];
      context.fillRect(x, y, size, size);
      write(context, color, x, y, size);
    }, `grid of ${shapeOf(text)} cells`);
  }

  /// Only the cells that differ: what was answered above the diagonal, what is true below it.
  function difference(answer, truth, side) {
    const [a, b] = [rowsOf(answer), rowsOf(truth)];
    const node = canvas(a.length, a[0].length, side, (context, row, column, x, y, size) => {
      if (a[row][column] === b[row][column]) return;
      context.fillStyle = data.palette[a[row][column]];
      context.fillRect(x, y, size, size);
      context.fillStyle = data.palette[b[row][column]];
      context.beginPath();
      context.moveTo(x + size, y);
      context.lineTo(x + size, y + size);
      context.lineTo(x, y + size);
      context.fill();
      context.strokeStyle = "#fff";
      context.lineWidth = Math.max(1, size / 12);
      context.beginPath();
      context.moveTo(x + size, y);
      context.lineTo(x, y + size);
      context.stroke();
    }, "cells that differ");
    node.classList.add("map");
    return node;
  }

  /// Doubt by cell: digits in base 36.
  function heat(map, side) {
    const rows = rowsOf(map.rows);
    const level = (row, column) => parseInt(rows[row][column], 36) / 35;
    const most = Math.max(0.15, ...rows.flatMap((text, row) => [...text].map((_, column) => level(row, column))));
    const node = canvas(rows.length, rows[0].length, side, (context, row, column, x, y, size) => {
      context.fillStyle = `rgba(217, 72, 15, ${(level(row, column) / most).toFixed(3)})`;
      context.fillRect(x, y, size, size);
    }, "uncertainty of each cell");
    node.classList.add("map");
    const full = map.kind === "entropy"
      ? `entropy, full color ${(most * Math.log(10)).toFixed(2)} nats`
      : `views against attempt 1, full color ${Math.round(100 * most)} %`;
    return figure(node, el("b", "", "uncertainty"), el("br"), full);
  }

  function wrongCells(answer, truth) {
    const [a, b] = [answer, truth].map((text) => text.replaceAll("/", ""));
    return [...a].filter((color, i) => color !== b[i]).length;
  }

  // --- Cards

  function thumbs(card) {
    const place = card.querySelector(".thumbs");
    if (place.childNodes.length) return;
    const task = data.tasks[card.dataset.task];
    const run = task.runs[0];
    const right = (test, t) => test.truth !== null && run && run.tests[t].attempts.includes(test.truth);
    const t = Math.max(0, task.tests.findIndex((test, t) => !right(test, t)));
    const [test, answered] = [task.tests[t], run && run.tests[t]];
    const best = answered && answered.attempts.includes(test.truth) ? test.truth : answered && answered.attempts[0];
    const last = test.truth !== null ? test.truth : answered && answered.attempts[1];
    const names = ["the test", "the answer", test.truth !== null ? "the truth" : "the second attempt"];
    [test.input, best, last].forEach((text, i) => {
      const node = text ? grid(text, THUMB) : el("span", "blank", "?");
      node.title = names[i];
      place.append(node);
    });
  }

  function draw(card) {
    const body = card.querySelector(".body");
    const task = data.tasks[card.dataset.task];
    body.replaceChildren(demonstrations(task), ...task.tests.map((_, t) => testOf(task, t)),
      ...task.runs.map((run, side) => fitOf(run, side)));
  }

  function demonstrations(task) {
    const row = el("div", "row");
    task.demos.forEach(([input, output], i) => {
      const pair = el("div", "demo", grid(input, GRID), el("span", "", "→"), grid(output, GRID));
      row.append(figure(pair, `demonstration ${i + 1}`));
    });
    return el("div", "", el("h4", "", "Demonstrations"), row);
  }

  function testOf(task, t) {
    const test = task.tests[t];
    const row = el("div", "row", figure(grid(test.input, GRID), "input"),
      test.truth === null ? figure(el("div", "blank", "not known"), "truth") : figure(grid(test.truth, GRID), "truth"));
    const name = task.tests.length > 1 ? `Test ${t + 1} of ${task.tests.length}` : "Test";
    const node = el("div", "", el("h4", "", name), row);
    task.runs.forEach((run, side) => {
      // Of one run, the answers stand beside the question; of two, in a part each.
      const alone = task.runs.length === 1;
      const place = alone ? node : el("div", "of", heading(side));
      const answers = alone ? row : el("div", "row");
      if (!alone) node.append(place);
      if (!run) return place.append(el("p", "alert", "The run has no record of this task."));
      answers.append(...answersOf(run.tests[t], test.truth));
      place.append(answers, votes(run, run.tests[t], test.truth));
    });
    return node;
  }

  function answersOf(answered, truth) {
    const figures = answered.attempts.flatMap((attempt, i) => judged(`attempt ${i + 1}`, attempt, truth));
    if (answered.heat) figures.push(heat(answered.heat, GRID));
    if (answered.baseline) figures.push(...judged("without training", answered.baseline, truth, true));
    return figures;
  }

  /// An answer and, if it is wrong, how it differs from the truth.
  function judged(name, text, truth, brief) {
    const caption = [el("b", "", name)];
    const figures = [];
    if (truth === text) caption.push(el("br"), el("span", "right", "right"));
    else if (truth !== null && shapeOf(truth) !== shapeOf(text)) {
      caption.push(el("br"), el("span", "off", `${shapeOf(text)}, not ${shapeOf(truth)}`));
    } else if (truth !== null) {
      const wrong = wrongCells(text, truth);
      caption.push(el("br"), el("span", "off", `${wrong} ${wrong === 1 ? "cell" : "cells"} wrong`));
      if (!brief) figures.push(figure(difference(text, truth, GRID), "difference", el("br"), "◤ answered ◢ true"));
    }
    return [figure(grid(text, GRID), ...caption), ...figures];
  }

  function heading(side) {
    return el("h4", "", el("span", `key ${"ab"[side]}`), data.sides[side]);
  }

  // --- The vote: a row a candidate, a square a view

  const SYMMETRIES = ["as it is", "turned left", "turned over", "turned right", "rows reversed", "columns reversed",
    "transposed", "anti-transposed"];
  const TURNS = ["none", "rotate(-90deg)", "rotate(180deg)", "rotate(90deg)", "scaleY(-1)", "scaleX(-1)",
    "matrix(0,1,1,0,0,0)", "matrix(0,-1,-1,0,0,0)"];

  function describe(code) {
    const parts = [SYMMETRIES[code[0]]];
    if (code.includes("c")) parts.push("recolored");
    if (code.includes("o")) parts.push("reordered");
    parts.push(code.endsWith("e") ? "end-to-end" : "in context");
    return parts.join(", ");
  }

  function votes(run, answered, truth) {
    if (!answered.candidates.length) return el("p", "alert", "Nothing was predicted, so there was no vote.");
    const glyphs = run.maps.map((code) => {
      const glyph = el("b", code.includes("c") ? "recolored" : "", "F");
      glyph.style.transform = TURNS[code[0]];
      glyph.title = describe(code);
      return glyph;
    });
    const heads = ["rank", "candidate", "score", "share"].map((name) => el("th", "", name));
    const views = el("th", "views", el("span", "", ...glyphs));
    const body = el("tbody");
    for (const candidate of answered.candidates) body.append(choice(run, answered, candidate, truth));
    const table = el("table", "votes", el("thead", "", el("tr", "", ...heads, views)), body);
    const note = `${answered.found} ${answered.found === 1 ? "candidate" : "candidates"}. A square is a view: its ` +
      "color says how probable it finds the grid beside the others, a frame that it proposes it. An orange F was recolored.";
    const node = el("div", "", el("div", "scroll", table), el("p", "note", note));
    if (answered.rules.length) node.append(tried(answered.rules));
    return node;
  }

  /// Which rules of the vote would have attempted the truth.
  function tried(rules) {
    const right = rules.filter(([, place]) => place > 0).length;
    if (right === 0) return el("p", "note", "No rule of the vote attempts the truth.");
    if (right === rules.length) return el("p", "note", "Every rule of the vote attempts the truth.");
    const words = ["", " (first)", " (second)"];
    const rule = ([name, place]) => el("li", place ? "yes" : "", `${place ? "✓" : "✗"} ${name}${words[place]}`);
    return el("ul", "tried", ...rules.map(rule));
  }

  function choice(run, answered, candidate, truth) {
    const strip = el("span");
    // Where fresh views score, they come last.
    const first = run.maps.length - candidate.log_probs.length;
    run.maps.forEach((code, map) => {
      const scores = map >= first;
      const best = Math.max(...answered.candidates.map((other) => other.log_probs[map - first] ?? -Infinity));
      const mine = scores ? candidate.log_probs[map - first] : null;
      const square = el("i");
      if (candidate.by.includes(map)) square.className = "by";
      else if (candidate.also.includes(map)) square.className = "also";
      square.style.setProperty("--p", mine === null ? 0 : Math.exp(mine - best).toFixed(3));
      const says = !scores ? "does not score" : mine === null ? "impossible" : `ln P = ${mine}`;
      square.title = `${describe(code)}: ${says}` +
        (candidate.by.includes(map) ? ", proposed" : candidate.also.includes(map) ? ", found" : "");
      strip.append(square);
    });
    const rank = el("th", "", String(candidate.rank));
    if (truth === candidate.grid) rank.append(" ", el("span", "solved", "✓"));
    return el("tr", "", rank, el("td", "", grid(candidate.grid, CHOICE)), el("td", "", shown(candidate.score)),
      el("td", "", `${(100 * candidate.share).toFixed(1)} %`), el("td", "views", strip));
  }

  const shown = (score) => (Math.abs(score) < 1e5 ? score.toPrecision(3).replace("-", "−") : "−∞");

  // --- The fit

  function fitOf(run, side) {
    const node = el("div", "", el("h4", "", "Fit"));
    if (data.sides.length > 1) node.replaceChildren(heading(side));
    if (!run) return node;
    if (run.failed) node.append(el("p", "alert", `A stage failed: ${run.failed}`));
    for (const note of run.notes) node.append(el("p", "alert", note));
    const seconds = (s) => (s < 1 ? `${Math.round(1000 * s)} ms` : `${s.toFixed(1)} s`);
    const [baseline, fit, predict, vote, total] = run.seconds.map(seconds);
    const checks = run.curve.checks;
    const pairs = [["Steps", run.steps ? `${run.steps}, ${run.stop}; the weights of step ${run.best} were kept` : run.stop]];
    if (run.start) pairs.push(["Start", `the task tokens of ${run.start}, which explained the demonstrations best`]);
    if (checks.length) {
      const [step, exact, of] = checks[checks.length - 1];
      pairs.push(["Last held-out check", `${exact} of ${of} demonstrations at step ${step}`]);
    }
    if (run.held_out) {
      const [demonstration, exact, of, steps] = run.held_out;
      pairs.push(["Held-out demonstration", `number ${demonstration}: ${exact} of ${of} predictions exact after ${steps} steps without it`]);
    }
    pairs.push(["Time", `${total}: baseline ${baseline}, fit ${fit}, prediction ${predict}, vote ${vote}`]);
    const drawn = el("div", "");
    // Numbers alone go into this text.
    drawn.innerHTML = run.steps ? curve(run) : "";
    node.append(el("div", "fit", ...(run.steps ? [drawn] : []), facts(pairs)));
    return node;
  }

  /// The loss by step on a logarithmic scale, and the share of demonstrations that held-out checks reproduced.
  function curve(run) {
    const [width, height, left, right, top, bottom] = [440, 200, 44, 400, 12, 168];
    const points = (flat) => flat.flatMap((_, i) => (i % 2 ? [] : [[flat[i], Math.max(flat[i + 1], 1e-5)]]));
    const series = [["a", points(run.curve.icl)], ["b", points(run.curve.e2e)]].filter(([, p]) => p.length);
    const losses = series.flatMap(([, p]) => p.map(([, loss]) => Math.log10(loss)));
    const [low, high] = [Math.floor(Math.min(...losses)), Math.max(Math.ceil(Math.max(...losses)), Math.floor(Math.min(...losses)) + 1)];
    const x = (step) => left + ((right - left) * step) / run.steps;
    const y = (log) => bottom - ((bottom - top) * (log - low)) / (high - low);
    let svg = `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="loss by step"><g class="axis">`;
    for (let decade = low; decade <= high; decade++) {
      svg += `<line x1="${left}" x2="${right}" y1="${y(decade)}" y2="${y(decade)}"/>` +
        `<text x="${left - 7}" y="${y(decade) + 4}" text-anchor="end">${+(10 ** decade).toPrecision(1)}</text>`;
    }
    svg += `<text x="${left}" y="${bottom + 17}">0</text><text x="${right}" y="${bottom + 17}" text-anchor="middle">${run.steps}</text>` +
      `<text x="${(left + right) / 2}" y="${height - 4}" text-anchor="middle">loss in nats by step` +
      `${run.curve.checks.length ? "; dots: checks" : ""}${run.held_out ? "; diamond: held out" : ""}</text>`;
    const share = (part) => bottom - (bottom - top) * part;
    const of = run.curve.checks.length ? run.curve.checks[0][2] : run.held_out ? run.held_out[2] : 0;
    if (of) for (const n of [0, of]) svg += `<text x="${right + 9}" y="${share(n / of) + 4}">${n}/${of}</text>`;
    svg += "</g>";
    for (const [name, line] of series) {
      const path = line.map(([step, loss]) => `${x(step).toFixed(1)} ${y(Math.log10(loss)).toFixed(1)}`).join("L");
      svg += `<path class="line ${name}" d="M${path}"/>`;
    }
    const dots = run.curve.checks.map(([step, exact, of]) => [x(step), share(exact / of)]);
    if (dots.length) svg += `<path class="line good dashed" d="M${dots.map((dot) => dot.join(" ")).join("L")}"/>`;
    for (const [cx, cy] of dots) svg += `<circle class="dot good" cx="${cx}" cy="${cy}" r="4"/>`;
    if (run.held_out) {
      const [, exact, tried, steps] = run.held_out;
      const [cx, cy] = [x(steps), share(exact / tried)];
      svg += `<path class="dot bad" d="M${cx} ${cy - 6}L${cx + 6} ${cy}L${cx} ${cy + 6}L${cx - 6} ${cy}Z"/>`;
    }
    return svg + "</svg>";
  }

  // --- Filters

  let filter = "all";
  const search = document.getElementById("search");
  const sort = document.getElementById("sort");
  const chips = [...document.querySelectorAll("[data-filter]")];

  function apply() {
    const wanted = search.value.trim().toLowerCase();
    let n = 0;
    for (const card of cards) {
      const fits = (filter === "all" || card.dataset.keys.split(" ").includes(filter)) &&
        card.dataset.id.toLowerCase().includes(wanted);
      card.hidden = !fits;
      n += fits;
    }
    for (const chip of chips) chip.setAttribute("aria-pressed", chip.dataset.filter === filter);
    document.getElementById("shown").textContent = `${n} of ${cards.length} shown`;
    document.getElementById("none").hidden = n > 0;
  }

  function order() {
    const value = (card) => (sort.value === "order" ? -card.dataset.task : Number(card.dataset[sort.value]));
    const sorted = [...cards].sort((a, b) => value(b) - value(a) || a.dataset.task - b.dataset.task);
    document.querySelector(".cards").append(...sorted);
  }

  function redraw() {
    for (const card of cards) {
      card.querySelector(".thumbs").replaceChildren();
      observer.unobserve(card);
      observer.observe(card);
      if (card.open) draw(card);
    }
  }

  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) thumbs(entry.target);
  }, { rootMargin: "300px" });

  for (const chip of chips) {
    chip.addEventListener("click", () => {
      filter = chip.dataset.filter;
      apply();
    });
  }
  search.addEventListener("input", apply);
  sort.addEventListener("change", order);
  digits.addEventListener("change", redraw);
  for (const card of cards) {
    observer.observe(card);
    card.addEventListener("toggle", () => (card.open ? draw(card) : card.querySelector(".body").replaceChildren()));
  }
  for (const button of document.querySelectorAll("[data-open]")) {
    button.addEventListener("click", () => {
      const card = cards.find((card) => card.dataset.id === button.dataset.open);
      if (!card) return;
      filter = "all";
      search.value = "";
      apply();
      card.open = true;
      card.scrollIntoView();
    });
  }
  // What was never looked at has no picture yet, and what was may lack digits.
  window.addEventListener("beforeprint", () => {
    printing = true;
    redraw();
    cards.filter((card) => !card.hidden).forEach(thumbs);
  });
  window.addEventListener("afterprint", () => {
    printing = false;
    redraw();
  });
  document.getElementById("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
  apply();
})();
