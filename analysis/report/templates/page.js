"use strict";
/* Behaviour of the page: figures as panels, filters, tables, downloads. Nothing is fetched. */

const FACETS = ["scenario", "label", "classifier"];
const hidden = { scenario: new Set(), label: new Set(), classifier: new Set() };
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const made = (tag, options = {}, ...children) => {
  const out = Object.assign(document.createElement(tag), options);
  out.append(...children);
  return out;
};
const announce = text => { document.getElementById("said").textContent = text; };
const saved = (name, blob) => {
  const link = made("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
};

/* Light and dark. Colours of methods stand out from both pages; neutral ones and scales are exchanged. */
const DARK = {
  "#1d2530": "#e4e8ee", "#e6e9ee": "#2b323c", "#b6bec9": "#4d5866", "#20262e": "#f2f4f7", "#111111": "#ffffff",
  "#5b6675": "#a2adba", "#f0cccc": "#4b2c2f", "#f6f8fb": "#1a212a", "#c5d7ea": "#1f3b59", "#7fa8d1": "#3573b5",
  "#3a74b0": "#9cc6f0", "#123f70": "#d3e6f9", "#ffffff": "#14181f", "white": "rgba(0,0,0,0)",
};
const preferred = window.matchMedia("(prefers-color-scheme: dark)");
let theme = preferred.matches ? "dark" : "light";
const brightness = parts => parts.reduce((sum, part, i) =>
  sum + [0.2126, 0.7152, 0.0722][i] * (part <= 10 ? part / 3294 : ((part / 255 + 0.055) / 1.055) ** 2.4), 0);
const lighter = colour => {
  const parts = [1, 3, 5].map(i => parseInt(colour.slice(i, i + 2), 16));
  if ((brightness(parts) + 0.05) / 0.0587 >= 2.9) return colour;
  return "#" + parts.map(part => Math.round(part + (255 - part) * 0.55).toString(16).padStart(2, "0")).join("");
};
function themed(figure) {
  if (theme === "light") return JSON.parse(figure);
  const text = figure
    .replace(/"(#[0-9a-f]{6}|white)"/g, (_, colour) => `"${DARK[colour] || lighter(colour)}"`)
    .replace(/rgba\(32,38,46,/g, "rgba(242,244,247,");
  return JSON.parse(text);
}

/* The library and large figures are stored compressed. */
async function unpacked(script) {
  if (script.type !== "text/plain") return script.textContent;
  const bytes = Uint8Array.from(atob(script.textContent), c => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

/* Which facets a trace has: its own, or what its name and the title of its panel say. */
function facets(trace, title = "") {
  const row = Array.isArray(trace.y) && new Set(trace.y).size === 1 ? [String(trace.y[0])] : [];
  const words = [trace.name, trace.legendgroup, title].filter(Boolean);
  const parts = [...row, ...words.flatMap(text => [text, ...text.split(/ · |@|: |, /)])];
  const found = key => parts.find(part => known[key].has(part));
  return { label: found("label"), scenario: found("scenario"), ...trace.meta };
}
const shown = facet => !FACETS.some(key => facet[key] !== undefined && hidden[key].has(facet[key]));
const known = { scenario: new Set(), label: new Set(), classifier: new Set() };

/* A text broken at spaces so that its lines fit into a length in pixels. */
function lines(text, length) {
  const most = Math.max(12, Math.floor(length / 7)), out = [""];
  text.split(" ").forEach(word => {
    const longer = `${out.at(-1)} ${word}`.trim();
    if (longer.length <= most || !out.at(-1)) out[out.length - 1] = longer;
    else out.push(word);
  });
  return out.join("<br>");
}

const MANY = 12;
/* A figure of subplots as panels that flow with the width of the page. */
class Figure {
  constructor(place, text) {
    this.place = place;
    this.text = text;
    const { data, layout } = JSON.parse(this.text);
    this.off = new Set();
    this.meta = layout.meta || { titles: [], columns: 1, height: (layout.height || 400) - 100 };
    const axes = [...new Set(data.map(trace => trace.xaxis || "x"))];
    this.axes = axes.sort((a, b) => Number(a.slice(1) || 1) - Number(b.slice(1) || 1));
    const width = { 1: 560, 2: 430, 3: 300, 4: 250 }[this.meta.columns] || 205;
    this.grid = made("div", { className: "panels" });
    this.grid.style.setProperty("--panel", `${width}px`);
    this.facets = data.map(trace => facets(trace, this.meta.titles[Number((trace.xaxis || "x").slice(1) || 1) - 1]));
    this.legend(data, layout);
    this.panels = this.axes.map((axis, index) => {
      const title = this.meta.titles[Number(axis.slice(1) || 1) - 1];
      const head = made("p", { className: "title", textContent: title || "" });
      const box = made("div", { className: "plot", role: "img" });
      const own = layout["xaxis" + axis.slice(1)] || {};
      box.setAttribute("aria-label", [place.dataset.title, title, (own.title || {}).text].filter(Boolean).join(", "));
      box.style.height = `${this.height}px`;
      const panel = made("div", { className: "panel" }, ...(title ? [head] : []), box);
      this.grid.append(panel);
      return { axis, panel, box, index, near: false, drawn: "" };
    });
    this.open = false;
    place.append(this.grid, this.toolbar());
    this.fold();
    const seen = new IntersectionObserver(found => found.forEach(one => {
      const panel = this.panels.find(each => each.panel === one.target);
      panel.near = one.isIntersecting;
      this.draw(panel);
    }), { rootMargin: "900px 0px" });
    this.panels.forEach(one => seen.observe(one.panel));
  }
  get height() { return this.meta.height + 64; }
  legend(data, layout) {
    const keys = new Map();
    data.forEach((trace, i) => {
      if (layout.showlegend && trace.showlegend !== false && trace.name) {
        if (!keys.has(trace.legendgroup || trace.name)) keys.set(trace.legendgroup || trace.name, i);
      }
    });
    this.keys = [];
    if (keys.size > 1) {
      const list = made("div", { className: "legend", role: "group" });
      list.setAttribute("aria-label", "Series shown");
      keys.forEach((at, key) => {
        const button = made("button", { type: "button", title: "Show or hide" }, data[at].name);
        button.setAttribute("aria-pressed", "true");
        button.onclick = () => {
          this.off.has(key) ? this.off.delete(key) : this.off.add(key);
          button.setAttribute("aria-pressed", String(!this.off.has(key)));
          this.update();
        };
        const mine = data.flatMap((one, i) => ((one.legendgroup || one.name) === key ? [this.facets[i]] : []));
        this.keys.push({ button, mine, at });
        list.append(button);
      });
      this.place.append(list);
      this.paint();
    }
    if (layout.coloraxis && layout.coloraxis.cmin !== undefined) {
      const { cmin, cmax } = layout.coloraxis;
      this.place.append(made("p", { className: "scale" }, `${cmin}`, made("i"), `${cmax}`));
    }
  }
  /* The marks of the legend, in the colours that the theme gives the figure. */
  paint() {
    if (this.painted === theme || !this.keys.length) return;
    this.painted = theme;
    const { data } = themed(this.text);
    this.keys.forEach(({ button, at }) => {
      all("svg", button).forEach(one => one.remove());
      button.prepend(swatch(data[at]));
    });
  }
  visible(trace, i) { return shown(this.facets[i]) && !this.off.has(trace.legendgroup || trace.name); }
  of(panel) {
    const { data, layout } = themed(this.text);
    const own = panel.axis.slice(1), refs = new Set(["x" + own, "y" + own]);
    const mine = data.filter((trace, i) => (trace.xaxis || "x") === panel.axis && this.visible(trace, i));
    const axis = name => {
      const { domain, anchor, matches, ...rest } = layout[name + "axis" + own] || {};
      return { automargin: true, ...rest };
    };
    const wrapped = (one, length) => ({
      ...one, ...(one.title ? { title: { ...one.title, text: lines(one.title.text || "", length) } } : {}),
    });
    const out = {
      font: layout.font, hoverlabel: layout.hoverlabel, hovermode: layout.hovermode || "closest",
      height: this.height, margin: { l: 52, r: 30, t: 8, b: 46 }, paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, dragmode: coarse ? false : "zoom",
      xaxis: wrapped(axis("x"), panel.box.clientWidth - 40), yaxis: wrapped(axis("y"), this.height - 20), barmode: layout.barmode, bargap: layout.bargap,
      colorway: layout.colorway,
    };
    if (!out.yaxis.range && this.shares(layout, "y" + own)) {
      out.yaxis.range = this.span(data);
      out.yaxis.showticklabels = true;  // panels flow, so each needs its own
    }
    if (layout.coloraxis) out.coloraxis = { ...layout.coloraxis, showscale: layout.coloraxis.cmin === undefined };
    const here = item => {
      const [x, y] = [item.xref || "paper", item.yref || "paper"].map(ref => ref.split(" "));
      if (!refs.has(x[0]) && !refs.has(y[0])) return [];
      const moved = ref => [ref[0][0] === "p" ? "paper" : ref[0][0], ...ref.slice(1)].join(" ");
      return [{ ...item, xref: moved(x), yref: moved(y) }];
    };
    out.shapes = (layout.shapes || []).flatMap(here);
    out.annotations = (layout.annotations || []).flatMap(here);
    mine.forEach(trace => { trace.xaxis = "x"; trace.yaxis = "y"; });
    return { data: mine, layout: JSON.parse(JSON.stringify(out)) };
  }
  /* Whether a panel's vertical axis is that of the others. */
  shares(layout, axis) {
    return Object.entries(layout).some(([key, one]) => key.startsWith("yaxis") && one.matches
      && ("y" + key.slice(5) === axis || one.matches === axis));
  }
  span(data) {
    const ends = ({ y = [], error_y: bars = {} }) => bars.array && bars.visible !== false
      ? y.flatMap((value, i) => [value - (bars.array[i] || 0), value + (bars.array[i] || 0)]) : y;
    const numbers = data.flatMap(ends).filter(Number.isFinite);
    const [low, high] = [Math.min(...numbers), Math.max(...numbers)], pad = 0.06 * (high - low || 1);
    return [low - pad, high + pad];
  }
  async draw(panel) {
    if (!panel.near || panel.panel.hidden || !window.Plotly) return;
    const state = [theme, ...FACETS.map(key => [...hidden[key]].join("|")), ...this.off].join("/");
    if (panel.drawn === state) return;
    panel.drawn = state;
    const { data, layout } = this.of(panel);
    await Plotly.react(panel.box, data, layout, CONFIG);
  }
  /* Hide panels that the filters leave empty, and those after the first ones until they are asked for. */
  fold() {
    const { data } = JSON.parse(this.text);
    const suits = panel => {
      const mine = this.facets.filter((_, i) => (data[i].xaxis || "x") === panel.axis);
      return !mine.length || mine.some(shown);
    };
    const fitting = this.panels.filter(suits).length;
    let count = 0;
    this.panels.forEach(panel => {
      const fits = suits(panel);
      count += fits;
      panel.panel.hidden = !fits || (!this.open && count > MANY && fitting > MANY + 3);
    });
    this.more.hidden = count <= MANY + 3;
    this.more.textContent = this.open ? "Show fewer panels" : `Show all ${count} panels`;
    this.more.setAttribute("aria-expanded", String(this.open));
  }
  update() {
    this.fold();
    this.panels.forEach(panel => this.draw(panel));
    this.paint();
    this.keys.forEach(({ button, mine }) => { button.hidden = !mine.some(shown); });
  }
  toolbar() {
    const bar = made("div", { className: "tools" });
    this.more = made("button", { type: "button" });
    this.more.onclick = () => { this.open = !this.open; this.update(); };
    bar.append(this.more);
    for (const format of ["svg", "png"]) {
      const button = made("button", { type: "button", textContent: format.toUpperCase() });
      button.setAttribute("aria-label", `Download the figure ${this.place.dataset.title} as ${format.toUpperCase()}`);
      button.onclick = () => this.picture(format).then(blob => saved(`${this.place.dataset.name}.${format}`, blob));
      bar.append(button);
    }
    return bar;
  }
  /* The whole figure as one picture, light, with what the filters leave. */
  async picture(format) {
    const { data, layout } = JSON.parse(this.text);
    const figure = { data: data.filter((trace, i) => this.visible(trace, i)), layout: { ...layout, meta: undefined } };
    const width = layout.width || (this.meta.columns > 1 ? 1100 : 760);
    const size = { format, width, height: layout.height || 500, scale: format === "png" ? 2 : 1 };
    const url = await Plotly.toImage({ ...figure, config: CONFIG }, size);
    const [head, body] = [url.slice(5, url.indexOf(",")), url.slice(url.indexOf(",") + 1)];
    const bytes = head.includes("base64")
      ? Uint8Array.from(atob(body), c => c.charCodeAt(0)) : new TextEncoder().encode(decodeURIComponent(body));
    return new Blob([bytes], { type: format === "svg" ? "image/svg+xml" : "image/png" });
  }
}
const CONFIG = { displayModeBar: false, displaylogo: false, showSendToCloud: false, showEditInChartStudio: false, responsive: true };
const coarse = window.matchMedia("(pointer: coarse)").matches;

function swatch(trace) {
  const { marker = {}, line = {}, mode = "" } = trace;
  const first = value => (Array.isArray(value) ? value[0] : value);
  const colour = first(line.color) || first(marker.color) || "#888888";
  const svg = (tag, attributes) => {
    const out = document.createElementNS("http://www.w3.org/2000/svg", tag);
    Object.entries(attributes).forEach(([name, value]) => out.setAttribute(name, value));
    return out;
  };
  const out = svg("svg", { width: 26, height: 12, "aria-hidden": "true" });
  const dash = { dash: "7 4", dot: "2 3", dashdot: "7 3 2 3", longdash: "10 4" }[line.dash] || "none";
  if (mode.includes("lines") || (!mode && trace.type !== "bar")) {
    out.append(svg("line", { x1: 0, x2: 26, y1: 6, y2: 6, stroke: colour, "stroke-width": 2, "stroke-dasharray": dash }));
  }
  if (mode.includes("markers") || trace.type === "bar") {
    const symbol = trace.type === "bar" ? "square" : String(first(marker.symbol));
    const points = {
      square: "9,2 17,2 17,10 9,10", diamond: "13,1 18,6 13,11 8,6", "triangle-up": "13,1 18,10 8,10", "triangle-down": "13,11 18,2 8,2",
      "triangle-left": "8,6 17,1 17,11", "triangle-right": "18,6 9,1 9,11",
      x: "9,1 13,5 17,1 18,3 14,6 18,9 17,11 13,7 9,11 8,9 12,6 8,3", hexagon: "10,1 16,1 19,6 16,11 10,11 7,6",
      star: "13,0 14,4 19,4 15,7 17,12 13,9 9,12 11,7 7,4 12,4",
    }[symbol.replace("-open", "")];
    const shape = points ? svg("polygon", { points }) : svg("circle", { cx: 13, cy: 6, r: 4.5 });
    const open = symbol.endsWith("-open");
    shape.setAttribute("fill", open ? "none" : colour);
    shape.setAttribute("stroke", colour);
    out.append(shape);
  }
  return out;
}

/* Tables: sorted by a header, filtered by words, long ones folded, saved as CSV. */
const FEW = 12;
class Rows {
  constructor(place) {
    this.table = place.querySelector("table");
    this.body = this.table.tBodies[0];
    this.order = [...this.body.rows];
    this.rows = this.order.filter(row => !row.classList.contains("heading"));
    this.words = "";
    this.open = this.rows.length <= FEW;
    this.by = null;
    all("th[data-place]", this.table.tHead).forEach(head => {
      const button = made("button", { type: "button", textContent: head.textContent });
      head.replaceChildren(button);
      button.onclick = () => this.sort(head);
    });
    const bar = made("div", { className: "tools" });
    if (this.rows.length > 6) {
      const box = made("input", { type: "search", placeholder: "Filter rows" });
      box.setAttribute("aria-label", `Filter the rows of ${this.table.dataset.name}`);
      box.oninput = () => { this.words = box.value.toLowerCase(); this.show(); };
      bar.append(box);
    }
    this.more = made("button", { type: "button" });
    this.more.onclick = () => { this.open = !this.open; this.show(); };
    const csv = made("button", { type: "button", textContent: "CSV" });
    csv.setAttribute("aria-label", `Download the table ${this.table.dataset.name} as CSV`);
    csv.onclick = () => saved(`${this.table.dataset.name}.csv`, new Blob([this.csv()], { type: "text/csv" }));
    bar.append(this.more, csv);
    place.append(bar);
    this.show();
    this.place = place;
    this.reach();
  }
  /* The keyboard scrolls a table that is wider than the page; a folded one has no width yet. */
  reach() {
    if (this.place.scrollWidth <= this.place.clientWidth) return;
    this.place.tabIndex = 0;
    this.place.setAttribute("role", "region");
    this.place.setAttribute("aria-label", this.table.dataset.name);
  }
  sort(head) {
    const at = Number(head.dataset.place);
    const turn = this.by && this.by.at === at ? { 1: -1, "-1": 0, 0: 1 }[this.by.turn] : 1;
    this.by = { at, turn };
    all("th[data-place]", this.table.tHead).forEach(each => each.removeAttribute("aria-sort"));
    if (turn) head.setAttribute("aria-sort", turn > 0 ? "ascending" : "descending");
    const key = row => value(row.cells[at]);
    const missing = one => one === "";
    const rows = turn ? [...this.rows].sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (missing(x) || missing(y)) return missing(x) - missing(y);
      return turn * (typeof x === "number" && typeof y === "number" ? x - y
        : String(x).localeCompare(String(y), undefined, { numeric: true }));
    }) : this.order;
    this.body.classList.toggle("sorted", Boolean(turn));
    this.body.replaceChildren(...rows);
    this.show();
    announce(turn ? `Sorted by ${head.textContent}, ${turn > 0 ? "ascending" : "descending"}` : "In the first order");
  }
  show() {
    const suits = row => shown(row.dataset) && row.textContent.toLowerCase().includes(this.words);
    const fitting = new Set(this.rows.filter(suits)), matching = fitting.size;
    const group = row => (this.by && this.by.turn ? "" : row.dataset.scenario || "");  // some of each scenario
    const groups = new Set([...fitting].map(group)).size, count = {};
    const least = this.open || matching <= FEW ? Infinity : Math.max(3, Math.floor((FEW - 2) / groups));
    [...this.body.rows].forEach(row => {
      row.hidden = !fitting.has(row) || (count[group(row)] || 0) >= least;
      if (!row.hidden) count[group(row)] = (count[group(row)] || 0) + 1;
    });
    if (!this.by || !this.by.turn) {
      let heading = null;
      this.order.forEach(row => {
        if (row.classList.contains("heading")) heading = row;
        else if (heading && !row.hidden) heading.hidden = false;
      });
    }
    this.more.hidden = matching <= FEW;
    this.more.textContent = this.open ? "Show fewer rows" : `Show all ${matching} rows`;
    this.more.setAttribute("aria-expanded", String(this.open));
  }
  csv() {
    const quoted = text => `"${text.replaceAll('"', '""')}"`;
    const head = all("th[data-place]", this.table.tHead).sort((a, b) => a.dataset.place - b.dataset.place);
    const groups = all("th.over", this.table.tHead).flatMap(one => Array(one.colSpan).fill(one.textContent + " "));
    const lead = head.length - groups.length;
    const lines = [head.map((one, i) => quoted((i < lead ? "" : groups[i - lead]) + one.textContent))];
    this.rows.filter(row => shown(row.dataset)).forEach(row => lines.push(
      [...row.cells].map(cell => quoted(cell.textContent.replace("–", "").replaceAll("−", "-").trim()))));
    return lines.map(line => line.join(",")).join("\n") + "\n";
  }
}
function value(cell) {
  const first = [...cell.childNodes].find(node => node.nodeName !== "SMALL");
  const text = (first ? first.textContent : "").trim();
  if (text === "–" || text === "") return "";
  const number = Number(text.replaceAll("−", "-").replaceAll(",", ""));
  return cell.classList.contains("num") && Number.isFinite(number) ? number : text;
}

/* Filters of the whole page. */
function filters(update) {
  const bar = document.getElementById("filters");
  FACETS.forEach(key => {
    if (known[key].size < 2) return;
    const count = made("small"), menu = made("div", { className: "menu" });
    const inputs = [...known[key]].map(name => {
      const box = made("input", { type: "checkbox", checked: true, name: key, value: name });
      box.onchange = () => {
        box.checked ? hidden[key].delete(name) : hidden[key].add(name);
        told();
      };
      menu.append(made("label", {}, box, " " + name));
      return box;
    });
    const told = () => {
      const left = inputs.filter(box => box.checked).length;
      count.textContent = left < inputs.length ? `${left} of ${inputs.length}` : `all ${left}`;
      update();
    };
    for (const [text, on] of [["All", true], ["None", false]]) {
      const button = made("button", { type: "button", textContent: text });
      button.onclick = () => {
        inputs.forEach(box => { box.checked = on; on ? hidden[key].delete(box.value) : hidden[key].add(box.value); });
        told();
      };
      menu.append(button);
    }
    count.textContent = `all ${inputs.length}`;
    const box = made("details", { className: "filter" }, made("summary", {}, key + " ", count), menu);
    bar.append(box);
  });
  document.addEventListener("click", event => all("details.filter[open]").forEach(one => {
    if (!one.contains(event.target)) one.open = false;
  }));
  document.addEventListener("keydown", event => {
    if (event.key !== "Escape") return;
    all("details.filter[open]").forEach(one => { one.open = false; one.querySelector("summary").focus(); });
  });
}

/* Browsers from before 2023 may lack the decompression: tables, sorting and filters work without it. */
const canUnpack = typeof DecompressionStream === "function";

async function start() {
  const names = JSON.parse(document.getElementById("filters").dataset.known);
  ["scenario", "label"].forEach(key => names[key].forEach(name => known[key].add(name)));
  all("[data-classifier]").forEach(row => known.classifier.add(row.dataset.classifier));
  const tables = all(".table").map(place => new Rows(place));
  const places = canUnpack ? all(".figure") : [];
  if (!canUnpack && all(".figure").length) {
    document.getElementById("old").hidden = false;
    announce(document.getElementById("old").textContent);
  }
  const figures = await Promise.all(places.map(async place =>
    new Figure(place, await unpacked(place.querySelector("script")))));
  const update = () => {
    all("[data-filtered]").forEach(one => { one.hidden = !shown(one.dataset); });
    tables.forEach(one => one.show());
    figures.forEach(one => one.update());
    const some = FACETS.some(key => hidden[key].size);
    document.getElementById("filtered").hidden = !some;
    if (some) announce("Figures and tables are filtered.");
  };
  filters(update);
  const links = all("nav a");
  const spy = new IntersectionObserver(found => found.forEach(one => {
    if (one.isIntersecting) links.forEach(link => {
      const here = link.hash === `#${one.target.id}`;
      here ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current");
    });
  }), { rootMargin: "-20% 0px -70% 0px" });
  all("main section").forEach(one => spy.observe(one));
  const folds = all("details.more"), unfold = document.getElementById("unfold");
  all("main details").forEach(one => one.addEventListener("toggle", () => {
    tables.filter(each => one.contains(each.place)).forEach(each => each.reach());
    unfold.textContent = folds.every(each => each.open) ? "Close what was folded" : "Open every section";
  }));
  unfold.hidden = !folds.length;
  unfold.onclick = () => {
    const open = folds.some(one => !one.open);
    folds.forEach(one => { one.open = open; });
  };
  /* A link to a section opens it; one to the whole content leaves all as they are. */
  const reveal = () => folds.filter(one => `#${one.parentElement.id}` === location.hash)
    .forEach(one => { one.open = true; });
  window.addEventListener("hashchange", reveal);
  const menu = document.getElementById("contents");
  if (window.matchMedia("(max-width: 1120px)").matches) menu.open = false;
  links.forEach(link => link.addEventListener("click", () => {
    if (link.hash === location.hash) reveal();  // the second click changes no address
    if (window.matchMedia("(max-width: 1120px)").matches) menu.open = false;
  }));
  preferred.addEventListener("change", () => { theme = preferred.matches ? "dark" : "light"; figures.forEach(one => one.update()); });
  window.addEventListener("beforeprint", () => {
    theme = "light";
    all("details").forEach(one => { one.open = true; });
    tables.forEach(one => { one.open = true; one.show(); });
    figures.forEach(one => { one.open = true; one.panels.forEach(panel => { panel.near = true; }); one.update(); });
  });
  window.addEventListener("afterprint", () => { theme = preferred.matches ? "dark" : "light"; update(); });
  if (figures.length) {
    document.head.append(made("script", { textContent: await unpacked(document.getElementById("plotly")) }));
    figures.forEach(one => one.update());
  }
  reveal();
  document.documentElement.dataset.ready = "yes";
}
start().catch(error => { document.documentElement.dataset.ready = "failed"; throw error; });
