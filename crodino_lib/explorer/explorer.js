// The explorer of latent spaces. One module draws it in an offline page and, as an anywidget, in a notebook.
//
// A point is one region of one scene as one sensor saw it: point p of a run is row p % rows of sensor
// Math.floor(p / rows). What is brushed is kept as points of the run it was brushed in, and carried to other runs.

const PATCHES_AT_ONCE = 24;
const CONTEXT_PX = 32; // least side of a crop: less is not recognised
const PATCH_PX = 160; // stored side of a drawn crop, at least; explorer.css decides how large it is shown
const LINE_PX = 3; // width of a region's outline on a drawn crop
const RAMP_STEPS = 64;
const MARGIN_PX = 18;
const UNKNOWN = "#9a9a9a"; // colour of a point without a value
const MOST_RINGS = 500;
const PICTURES_KEPT = 600;
const ISLANDS = "Distances between islands, their sizes and the gaps between them mean nothing.";
const HINT =
  "Drag a rectangle over the cloud: the regions behind its points are shown here as every sensor saw them, with the " +
  "truth and the predictions.";
const KEYS =
  "Drag to brush, shift-drag to pan, wheel or + and − to zoom, arrow keys to move, double-click or 0 to reset, " +
  "Escape to clear.";

/* ---------- what arrives ---------- */

/** A typed array of what Python packed; every browser's machine is little-endian. */
function unpack(kind, text) {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
  return new kind(bytes.buffer);
}

function mapValues(object, change) {
  return Object.fromEntries(Object.entries(object).map(([key, value]) => [key, change(value)]));
}

function decodeRun(run) {
  const scene = unpack(Uint32Array, run.scene);
  return {
    ...run,
    scene,
    rows: scene.length,
    count: scene.length * run.sensors.length,
    class: unpack(Uint8Array, run.class),
    box: unpack(Uint16Array, run.box),
    clouds: run.clouds.map((cloud) => ({ ...cloud, points: unpack(Uint16Array, cloud.points) })),
    errors: mapValues(run.errors, (errors) => unpack(Float32Array, errors)),
  };
}

function decode(data) {
  const classes = [...data.classes, { name: "no class", colour: data.missing }]; // rows without a class come last
  const factors = data.factors.map((factor) => ({ ...factor, values: unpack(Float32Array, factor.values) }));
  return { ...data, classes, factors, runs: data.runs.map(decodeRun) };
}

/** The same regions in another run: row for row where both have the same rows, else all of that scene and class. */
function carried(points, from, to) {
  if (from === to) return points;
  const equal = (a, b) => a.length === b.length && a.every((value, i) => value === b[i]);
  const same = equal(from.scene, to.scene) && equal(from.class, to.class) && equal(from.box, to.box);
  const key = (run, row) => run.scene[row] * 256 + run.class[row];
  const rowsOf = new Map();
  for (let row = 0; row < to.rows && !same; row++) {
    if (!rowsOf.has(key(to, row))) rowsOf.set(key(to, row), []);
    rowsOf.get(key(to, row)).push(row);
  }
  const found = new Set();
  for (const point of points) {
    const row = point % from.rows;
    const sensor = to.sensors.indexOf(from.sensors[Math.floor(point / from.rows)]);
    if (sensor < 0) continue;
    for (const other of same ? [row] : (rowsOf.get(key(from, row)) ?? [])) found.add(sensor * to.rows + other);
  }
  return [...found].sort((a, b) => a - b);
}

/** Every number below `count` once, in an order that no sensor, class or scene has: nothing always lies on top. */
function shuffled(count) {
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  let state = 1;
  for (let i = count - 1; i > 0; i--) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const j = Math.floor((state / 2 ** 32) * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

/* ---------- colours ---------- */

function channels(hex) {
  return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
}

/** `share` in 0..1 along a list of colours. */
function along(ramp, share) {
  const place = share * (ramp.length - 1);
  const low = Math.min(Math.floor(place), ramp.length - 2);
  const [a, b] = [channels(ramp[low]), channels(ramp[low + 1])];
  const mixed = a.map((value, i) => Math.round(value + (b[i] - value) * (place - low)));
  return `#${mixed.map((value) => value.toString(16).padStart(2, "0")).join("")}`;
}

/** Contrast ratio of two colours, 1..21, as WCAG 2 defines it. */
function contrast(a, b) {
  const luminance = (rgb) => {
    const [r, g, blue] = rgb.map((v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * blue;
  };
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
}

function brief(value) {
  return Number.isFinite(value) ? String(Number(value.toPrecision(3))) : "no value";
}

/** How points are coloured: `codes[p]` counts `colours`, -1 is no value; `text(p)` says the value. */
function colouring(data, run, block, name) {
  const perPoint = (value) => Float32Array.from({ length: run.count }, (_, p) => value(p));
  if (name === "class") {
    const codes = Int16Array.from({ length: run.count }, (_, p) => run.class[p % run.rows]);
    return { title: "class", kind: "class", codes, colours: data.classes.map((one) => one.colour), text: () => "" };
  }
  if (name === "modality") {
    const shown = run.sensors.map((sensor) => data.sensors.find((one) => one.name === sensor));
    const codes = Int16Array.from({ length: run.count }, (_, p) => Math.floor(p / run.rows));
    return { title: "modality", kind: "modality", codes, colours: shown.map((one) => one.colour), text: () => "" };
  }
  if (name === "error") {
    const values = run.errors[block] ?? perPoint(() => NaN);
    return ramped(data, "probe error", values, 0, 1);
  }
  const factor = data.factors.find((one) => `factor:${one.name}` === name);
  const values = perPoint((p) => factor.values[run.scene[p % run.rows]]);
  if (factor.levels) return levelled(data, factor, values);
  const known = factor.values.filter(Number.isFinite);
  const least = known.reduce((a, b) => Math.min(a, b), Infinity);
  const most = known.reduce((a, b) => Math.max(a, b), -Infinity);
  return ramped(data, factor.name, values, known.length ? least : 0, known.length ? most : 1);
}

function ramped(data, title, values, low, high) {
  const colours = Array.from({ length: RAMP_STEPS }, (_, i) => along(data.ramp, i / (RAMP_STEPS - 1)));
  const step = (value) => Math.round(((value - low) / (high - low || 1)) * (RAMP_STEPS - 1));
  const codes = Int16Array.from(values, (value) => (Number.isFinite(value) ? step(value) : -1));
  return { title, kind: "ramp", codes, colours, low, high, text: (p) => `${title} ${brief(values[p])}` };
}

/** The most frequent levels have a colour each; rarer ones share the grey of no value rather than another's colour. */
function levelled(data, factor, values) {
  const colours = data.levels.slice(0, factor.levels.length);
  const codes = Int16Array.from(values, (value) => (value < colours.length ? value : -1)); // NaN is not less
  const labels = factor.levels.slice(0, colours.length);
  const text = (p) => `${factor.name} ${factor.levels[values[p]] ?? "no value"}`;
  return { title: factor.name, kind: "levels", codes, colours, labels, text };
}

/* ---------- markers ---------- */

/** Corners of matplotlib's markers in a box of -1..1, y downwards; a circle has none. */
const MARKERS = {
  o: [],
  "^": [[0, -1.15], [1.05, 0.8], [-1.05, 0.8]],
  v: [[0, 1.15], [1.05, -0.8], [-1.05, -0.8]],
  s: [[-0.88, -0.88], [0.88, -0.88], [0.88, 0.88], [-0.88, 0.88]],
  D: [[0, -1.2], [1.2, 0], [0, 1.2], [-1.2, 0]],
  P: [[-0.4, -1.1], [0.4, -1.1], [0.4, -0.4], [1.1, -0.4], [1.1, 0.4], [0.4, 0.4],
      [0.4, 1.1], [-0.4, 1.1], [-0.4, 0.4], [-1.1, 0.4], [-1.1, -0.4], [-0.4, -0.4]],
  X: [[-1, -1], [-0.4, -1], [0, -0.5], [0.4, -1], [1, -1], [0.45, 0], [1, 1], [0.4, 1], [0, 0.5], [-0.4, 1],
      [-1, 1], [-0.45, 0]],
};

function trace(context, marker, x, y, radius) {
  const corners = MARKERS[marker];
  context.beginPath();
  if (corners.length) corners.forEach(([dx, dy]) => context.lineTo(x + dx * radius, y + dy * radius));
  else context.arc(x, y, radius, 0, 2 * Math.PI);
  context.closePath();
}

/** The pixels that one marker covers, from its top left; thousands of points are copies of a few markers. */
function sprite(marker, colour, radius, ring, paper) {
  const half = Math.ceil(radius * 1.3 + (ring ? ring.width : 1));
  const canvas = make("canvas", { width: 2 * half, height: 2 * half });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  trace(context, marker, half, half, radius);
  if (ring) {
    context.lineWidth = ring.width;
    context.strokeStyle = ring.colour;
    context.lineJoin = "round";
    context.stroke();
  }
  context.fillStyle = colour;
  context.fill();
  if (contrast(channels(colour), paper.back) < 1.7) {
    context.lineWidth = Math.max(0.75, radius * 0.22); // a white class on white paper, a black one on black
    context.strokeStyle = `rgb(${paper.ink} / 0.6)`;
    context.stroke();
  }
  const { data } = context.getImageData(0, 0, 2 * half, 2 * half);
  const covered = [...Array(4 * half * half).keys()].filter((i) => data[4 * i + 3]);
  return {
    half,
    across: Int16Array.from(covered, (i) => i % (2 * half)),
    down: Int16Array.from(covered, (i) => Math.floor(i / (2 * half))),
    share: Float32Array.from(covered, (i) => data[4 * i + 3] / 255),
    red: Uint8Array.from(covered, (i) => data[4 * i]),
    green: Uint8Array.from(covered, (i) => data[4 * i + 1]),
    blue: Uint8Array.from(covered, (i) => data[4 * i + 2]),
  };
}

/** Blend a sprite over an opaque sheet, centred on x and y: many times as fast as drawing images on a canvas. */
function stamp(sheet, sprite, x, y, alpha) {
  const { across, down, share, red, green, blue } = sprite;
  const { data, width, height } = sheet;
  const [left, top] = [Math.round(x) - sprite.half, Math.round(y) - sprite.half];
  for (let i = 0; i < share.length; i++) {
    const column = left + across[i];
    const row = top + down[i];
    if (column < 0 || row < 0 || column >= width || row >= height) continue;
    const at = 4 * (row * width + column);
    const part = share[i] * alpha;
    data[at] += (red[i] - data[at]) * part;
    data[at + 1] += (green[i] - data[at + 1]) * part;
    data[at + 2] += (blue[i] - data[at + 2]) * part;
  }
}

/* ---------- elements ---------- */

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

function swatch(marker, colour) {
  const canvas = make("canvas", { width: 28, height: 28, class: "swatch", "aria-hidden": "true" });
  const context = canvas.getContext("2d");
  trace(context, marker, 14, 14, 9);
  context.fillStyle = colour;
  context.fill();
  context.lineWidth = 1.5;
  context.strokeStyle = "rgb(128 128 128 / 0.7)";
  context.stroke();
  return canvas;
}

/** A labelled menu of `[value, text]`. */
function menu(label, id, options, value, change) {
  const select = make("select", { "data-testid": id, onchange: () => change(select.value) });
  for (const [key, text] of options) select.append(make("option", { value: key, selected: key === value }, text));
  return make("label", { class: "control" }, make("span", {}, label), select);
}

let groups = 0;

/** A labelled row of radio buttons, one for each of `options`. */
function choice(label, id, options, value, change) {
  const name = `crodino-${id}-${groups++}`; // two explorers in one notebook are two groups
  const buttons = options.map((option) =>
    make("label", {},
      make("input", { type: "radio", name, value: option, checked: option === value, "data-testid": `${id}-${option}`,
                      onchange: () => change(option) }),
      make("span", {}, option),
    ),
  );
  return make(
    "fieldset",
    { class: "control", "data-testid": id },
    make("legend", {}, label),
    make("div", { class: "segments" }, ...buttons),
  );
}

/* ---------- the cloud ---------- */

/** Two canvases on top of each other: the points, and what moves over them. */
class Plot {
  constructor({ onBrush, onHover, onClear }) {
    this.onBrush = onBrush;
    this.onHover = onHover;
    this.onClear = onClear;
    this.mode = "brush";
    this.chosen = new Set();
    this.canvas = make("canvas", {
      class: "points", tabindex: 0, role: "img", "data-testid": "cloud", "aria-label": `Cloud of points. ${KEYS}`,
    });
    this.over = make("canvas", { class: "over", "aria-hidden": "true" });
    this.tip = make("div", { class: "tip", hidden: true, role: "tooltip", "data-testid": "tooltip" });
    this.element = make("div", { class: "plot" }, this.canvas, this.over, this.tip);
    this.reset();
    this.listen();
    this.watcher = new ResizeObserver(() => this.resize());
    this.watcher.observe(this.element);
  }

  reset() {
    this.view = { zoom: 1, x: 0.5, y: 0.5 }; // centre of the canvas in units of the cloud, 0..1
    this.redraw();
  }

  resize() {
    this.ratio = window.devicePixelRatio || 1;
    for (const canvas of [this.canvas, this.over]) {
      canvas.width = Math.round(this.element.clientWidth * this.ratio);
      canvas.height = Math.round(this.element.clientHeight * this.ratio);
    }
    this.draw();
  }

  /** Draw once before the next frame, however often it is asked for. */
  redraw() {
    this.frame ??= requestAnimationFrame(() => this.draw());
  }

  show(run, cloud, colours) {
    if (this.run !== run) this.order = shuffled(run.count);
    Object.assign(this, { run, cloud, colours });
    const extent = (axis) => {
      let [low, high] = [65535, 0];
      for (let i = axis; i < cloud.points.length; i += 2) {
        low = Math.min(low, cloud.points[i]);
        high = Math.max(high, cloud.points[i]);
      }
      return Math.max(high - low, 1) / 65535;
    };
    this.extent = { x: extent(0), y: extent(1) };
    this.redraw();
  }

  /** Pixels of the canvas per unit of the cloud, the same along both axes; the whole cloud fits at zoom 1. */
  get scale() {
    const { canvas, extent, ratio, view } = this;
    const across = (canvas.width - 2 * MARGIN_PX * ratio) / extent.x;
    const down = (canvas.height - 2 * MARGIN_PX * ratio) / extent.y;
    return Math.max(Math.min(across, down), 1) * view.zoom;
  }

  /** x and y on the canvas of every point, NaN where it is hidden. */
  place() {
    const { points } = this.cloud;
    const { scale, view } = this;
    const placed = new Float32Array(points.length);
    const [x, y] = [this.canvas.width / 2, this.canvas.height / 2];
    for (let p = 0; p < this.run.count; p++) {
      placed[2 * p] = this.hidden[p] ? NaN : (points[2 * p] / 65535 - view.x) * scale + x;
      placed[2 * p + 1] = this.hidden[p] ? NaN : (1 - points[2 * p + 1] / 65535 - view.y) * scale + y;
    }
    return placed;
  }

  get radius() {
    const base = Math.min(5, Math.max(2.1, 190 / Math.sqrt(this.run.count)));
    return base * Math.min(2.2, this.view.zoom ** 0.35) * this.ratio;
  }

  /** Colours of the theme: of the paper as three numbers, of the ink as CSS writes them. */
  get paper() {
    const style = getComputedStyle(this.element);
    const numbers = (text) => text.match(/[\d.]+/g).slice(0, 3).map(Number);
    return { back: numbers(style.backgroundColor), ink: numbers(style.color).join(" ") };
  }

  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = null;
    if (!this.canvas.width || !this.canvas.height || !this.ratio) return; // hidden: drawn when it gets a size
    const { canvas, run, colours, chosen, paper } = this;
    this.placed = this.place();
    const { width, height } = canvas;
    if (this.sheet?.width !== width || this.sheet.height !== height) this.sheet = new ImageData(width, height);
    const [red, green, blue] = paper.back;
    new Uint32Array(this.sheet.data.buffer).fill(((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0);
    const sprites = new Map();
    const put = (p, alpha, ring) => {
      const sensor = Math.floor(p / run.rows);
      const key = (sensor * 512 + colours.codes[p] + 1) * 2 + (ring ? 1 : 0);
      if (!sprites.has(key)) {
        const colour = colours.codes[p] < 0 ? UNKNOWN : colours.colours[colours.codes[p]];
        sprites.set(key, sprite(this.markers[sensor], colour, this.radius * (ring ? 1.25 : 1), ring, paper));
      }
      stamp(this.sheet, sprites.get(key), this.placed[2 * p], this.placed[2 * p + 1], alpha);
    };
    const few = chosen.size < MOST_RINGS; // more would hide the colours
    const ring = few ? { width: 2.4 * this.ratio, colour: `rgb(${paper.ink})` } : null;
    const shown = this.order.filter((p) => !Number.isNaN(this.placed[2 * p]));
    for (const p of shown) if (!chosen.has(p)) put(p, chosen.size ? 0.2 : 0.85, null);
    for (const p of shown) if (chosen.has(p)) put(p, 1, ring);
    canvas.getContext("2d").putImageData(this.sheet, 0, 0);
    canvas.dataset.points = shown.length;
    this.clearOver();
  }

  clearOver() {
    this.over.getContext("2d").clearRect(0, 0, this.over.width, this.over.height);
  }

  drawBrush(a, b) {
    this.clearOver();
    const context = this.over.getContext("2d");
    const ink = this.paper.ink;
    context.fillStyle = `rgb(${ink} / 0.08)`;
    context.strokeStyle = `rgb(${ink} / 0.7)`;
    context.setLineDash([4 * this.ratio, 3 * this.ratio]);
    const box = [a.x, a.y, b.x - a.x, b.y - a.y];
    context.fillRect(...box);
    context.strokeRect(...box);
  }

  /** Numbers of the visible points in a rectangle of the canvas. */
  within(a, b) {
    const [left, right] = [a.x, b.x].sort((x, y) => x - y);
    const [top, bottom] = [a.y, b.y].sort((x, y) => x - y);
    const found = [];
    for (let p = 0; p < this.run.count; p++) {
      const [x, y] = [this.placed[2 * p], this.placed[2 * p + 1]];
      if (x >= left && x <= right && y >= top && y <= bottom) found.push(p);
    }
    return found;
  }

  /** Number of the visible point under the pointer; null if there is none. */
  nearest(at) {
    let best = null;
    let least = Math.max(this.radius * 1.6, 6 * this.ratio) ** 2;
    for (let p = 0; p < this.run.count; p++) {
      const distance = (this.placed[2 * p] - at.x) ** 2 + (this.placed[2 * p + 1] - at.y) ** 2;
      if (distance < least) [best, least] = [p, distance];
    }
    return best;
  }

  zoom(factor, at = { x: this.canvas.width / 2, y: this.canvas.height / 2 }) {
    const before = this.scale;
    this.view.zoom = Math.min(60, Math.max(0.5, this.view.zoom * factor));
    const shift = 1 / before - 1 / this.scale; // what is under the pointer stays there
    this.view.x += (at.x - this.canvas.width / 2) * shift;
    this.view.y += (at.y - this.canvas.height / 2) * shift;
    this.redraw();
  }

  pan(dx, dy) {
    this.view.x -= dx / this.scale;
    this.view.y -= dy / this.scale;
    this.redraw();
  }

  listen() {
    const at = (event) => {
      const box = this.canvas.getBoundingClientRect();
      return { x: (event.clientX - box.left) * this.ratio, y: (event.clientY - box.top) * this.ratio };
    };
    let start = null;
    let last = null;
    let panning = false;
    this.canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      start = last = at(event);
      panning = event.shiftKey || this.mode === "pan";
      this.canvas.setPointerCapture(event.pointerId);
      this.hover(null);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      const now = at(event);
      if (!start) this.hover(this.nearest(now), now);
      else if (panning) this.pan(now.x - last.x, now.y - last.y);
      else this.drawBrush(start, now);
      last = now;
    });
    this.canvas.addEventListener("pointerup", (event) => {
      if (!start) return;
      const now = at(event);
      const moved = Math.hypot(now.x - start.x, now.y - start.y) > 3 * this.ratio;
      const point = moved ? null : this.nearest(now);
      if (moved && !panning) this.onBrush(this.within(start, now));
      else if (point !== null) this.onBrush([point]);
      start = null;
      this.clearOver();
    });
    this.canvas.addEventListener("pointercancel", () => ((start = null), this.clearOver()));
    this.canvas.addEventListener("pointerleave", () => this.hover(null));
    this.canvas.addEventListener("dblclick", () => this.reset());
    this.canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), at(event));
    }, { passive: false });
    this.canvas.addEventListener("keydown", (event) => {
      const step = 40 * this.ratio;
      const actions = {
        "+": () => this.zoom(1.25), "=": () => this.zoom(1.25), "-": () => this.zoom(0.8), 0: () => this.reset(),
        ArrowLeft: () => this.pan(step, 0), ArrowRight: () => this.pan(-step, 0),
        ArrowUp: () => this.pan(0, step), ArrowDown: () => this.pan(0, -step), Escape: () => this.onClear(),
      };
      if (!actions[event.key] || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      event.stopPropagation(); // a notebook has shortcuts of its own
      actions[event.key]();
    });
  }

  hover(point, at) {
    this.tip.hidden = point === null;
    if (point === null) return;
    this.tip.replaceChildren(...this.onHover(point).map((line) => make("div", {}, line)));
    const x = at.x / this.ratio;
    const right = x > this.element.clientWidth / 2;
    this.tip.style.left = right ? "auto" : `${x + 14}px`;
    this.tip.style.right = right ? `${this.element.clientWidth - x + 14}px` : "auto";
    this.tip.style.top = `${at.y / this.ratio + 10}px`;
  }

  unmount() {
    this.watcher.disconnect();
    cancelAnimationFrame(this.frame);
  }
}

/* ---------- patches ---------- */

/** The part of a picture that shows a region: its box and a margin, square unless the picture is not large enough. */
export function cropOf([left, top, right, bottom], width, height) {
  const side = Math.max(CONTEXT_PX, Math.ceil(1.3 * Math.max(right - left, bottom - top)));
  const [w, h] = [Math.min(side, width), Math.min(side, height)];
  const fit = (centre, size, whole) => Math.round(Math.min(Math.max(centre - size / 2, 0), whole - size));
  return { x: fit((left + right) / 2, w, width), y: fit((top + bottom) / 2, h, height), w, h };
}

/** Pictures by their data URL, decoded once; the oldest are forgotten. */
class Pictures {
  constructor() {
    this.known = new Map();
  }

  get(url) {
    if (!this.known.has(url)) {
      const image = new Image();
      image.src = url;
      this.known.set(url, image.decode().then(() => image));
      if (this.known.size > PICTURES_KEPT) this.known.delete(this.known.keys().next().value);
    }
    return this.known.get(url);
  }
}

/** A canvas with a region's crop of one picture, enlarged by a whole number, the region's box outlined. */
function patch(pictures, url, box, attributes, smooth) {
  const canvas = make("canvas", { role: "img", ...attributes });
  pictures.get(url).then((image) => {
    const crop = cropOf(box, image.naturalWidth, image.naturalHeight);
    const times = Math.ceil(PATCH_PX / Math.max(crop.w, crop.h));
    Object.assign(canvas, { width: crop.w * times, height: crop.h * times });
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = smooth;
    context.imageSmoothingQuality = "high";
    context.drawImage(image, crop.x, crop.y, crop.w, crop.h, 0, 0, canvas.width, canvas.height);
    const [left, top, right, bottom] = box;
    const inside = (value, whole) => Math.min(Math.max(value, LINE_PX), whole - LINE_PX); // of the canvas
    const x = inside((left - crop.x) * times - LINE_PX, canvas.width);
    const y = inside((top - crop.y) * times - LINE_PX, canvas.height);
    const w = inside((right - crop.x) * times + LINE_PX, canvas.width) - x;
    const h = inside((bottom - crop.y) * times + LINE_PX, canvas.height) - y;
    for (const [colour, line] of [["#000", 2 * LINE_PX], ["#fff", LINE_PX]]) {
      context.strokeStyle = colour; // white on black is seen on every picture
      context.lineWidth = line;
      context.strokeRect(x, y, w, h);
    }
    Object.assign(canvas.dataset, { crop: [crop.x, crop.y, crop.w, crop.h], times, ready: "" });
  });
  return canvas;
}

/* ---------- the explorer ---------- */

class View {
  constructor(element, data, { onSelect, selected, run, block }) {
    this.data = decode(data);
    this.onSelect = onSelect;
    this.pictures = new Pictures();
    this.run = this.data.runs.find((one) => one.name === run) ?? this.data.runs[0];
    this.block = block;
    this.colour = "class";
    this.off = { class: new Set(), sensor: new Set() };
    this.brushed = { run: this.run, points: selected };
    this.plot = new Plot({
      onBrush: (points) => this.brush(points),
      onHover: (p) => this.describe(p),
      onClear: () => this.brush([]),
    });
    this.build(element);
    this.theme = matchMedia("(prefers-color-scheme: dark)");
    this.repaint = () => this.plot.redraw();
    this.theme.addEventListener("change", this.repaint);
    this.themes = new MutationObserver(this.repaint); // JupyterLab's theme is an attribute of the body
    this.themes.observe(document.body, { attributes: true });
    this.update();
  }

  build(element) {
    const { data } = this;
    this.controls = make("div", { class: "controls", role: "group", "aria-label": "What is shown" });
    this.caption = make("p", { class: "caption", "data-testid": "caption" });
    this.legend = make("div", { class: "legend", "data-testid": "legend" });
    this.status = make("p", { class: "status", role: "status", "data-testid": "status" });
    this.list = make("section", { class: "selection", "aria-label": "Brushed regions", "data-testid": "selection" });
    const button = (id, text, action, title) =>
      make("button", { type: "button", "data-testid": id, title, onclick: action }, text);
    const tools = make("div", { class: "tools" },
      choice("Drag", "mode", ["brush", "pan"], "brush", (mode) => {
        this.plot.mode = mode;
        this.plot.canvas.dataset.mode = mode;
      }),
      button("brush-view", "Brush all in view", () => this.brush(this.inView()), "Brush every point that can be seen"),
      button("clear", "Clear", () => this.brush([]), "Nothing is brushed (Escape)"),
      button("reset", "Reset view", () => this.plot.reset(), "Show the whole cloud (double-click)"),
    );
    const title = make("h1", {}, data.title);
    const heading = make("header", {}, title, make("span", { class: "dataset" }, data.dataset));
    if (data.licensed)
      heading.append(
        make("p", { class: "licence", "data-testid": "licence", role: "note" },
          `This page must not be passed on: it holds pictures of ${data.dataset}, whose licence forbids it.`),
      );
    this.root = make("div", { class: "crodino-explorer", "data-testid": "explorer" },
      heading,
      this.controls,
      make("div", { class: "halves" },
        make("div", { class: "left" }, tools, this.plot.element, this.status, this.caption, this.legend),
        this.list),
    );
    element.replaceChildren(this.root);
  }

  /* What is shown follows from run, block, embedding, colour and what is switched off. */

  get cloud() {
    const clouds = this.run.clouds.filter((cloud) => cloud.block === this.block);
    return clouds.find((cloud) => cloud.embedding === this.embedding) ?? clouds[0];
  }

  /** Draw everything anew; `moved` says that points lie elsewhere now. */
  update(moved = true) {
    const { run, data } = this;
    if (!run.clouds.some((cloud) => cloud.block === this.block)) this.block = run.clouds[0].block;
    this.embedding = this.cloud.embedding;
    this.colours = colouring(data, run, this.block, this.colour);
    this.points = carried(this.brushed.points, this.brushed.run, run); // brushed, as numbers of the run shown
    this.plot.markers = run.sensors.map((name) => data.sensors.find((one) => one.name === name).marker);
    this.plot.chosen = new Set(this.points);
    this.plot.hidden = this.hidden();
    this.plot.show(run, this.cloud, this.colours);
    if (moved) this.plot.reset();
    this.drawControls();
    this.caption.replaceChildren(make("span", { "data-testid": "fidelity" }, this.cloud.caption), " ", ISLANDS);
    this.drawLegend();
    this.drawStatus();
    this.drawSelection();
    const { canvas } = this.plot;
    Object.assign(canvas.dataset, {
      run: run.name, block: this.block, embedding: this.embedding, colour: this.colour, selected: this.points.length,
    });
    this.plot.draw();
  }

  /** 1 for every point whose class or sensor is switched off. */
  hidden() {
    const { rows, sensors } = this.run;
    const hidden = new Uint8Array(this.run.count);
    for (let p = 0; p < hidden.length; p++)
      hidden[p] = this.off.class.has(this.run.class[p % rows]) || this.off.sensor.has(sensors[Math.floor(p / rows)]);
    return hidden;
  }

  brush(points) {
    this.brushed = { run: this.run, points };
    this.update(false);
    this.tell();
  }

  /** Show a selection that was made elsewhere: in Python, or in another view of the same widget. */
  follow(points, name) {
    const run = this.data.runs.find((one) => one.name === name);
    this.brushed = { run, points: points.filter((p) => p < run.count) };
    this.update(false);
  }

  tell() {
    this.onSelect({ run: this.run.name, block: this.block, selected: this.points });
  }

  inView() {
    const { width, height } = this.plot.canvas;
    return this.plot.within({ x: 0, y: 0 }, { x: width, y: height });
  }

  drawControls() {
    const { run, data } = this;
    const focused = this.controls.contains(document.activeElement) ? document.activeElement.dataset.testid : null;
    const change = (name, moved) => (value) => {
      this[name] = value;
      this.update(moved);
      this.tell();
    };
    const unique = (values) => [...new Set(values)];
    const colours = [["class", "class"], ["modality", "modality"]];
    if (data.runs.some((one) => Object.keys(one.errors).length)) colours.push(["error", "probe error"]);
    for (const factor of data.factors) colours.push([`factor:${factor.name}`, factor.name.replaceAll("_", " ")]);
    const here = run.clouds.filter((cloud) => cloud.block === this.block);
    this.controls.replaceChildren(
      menu("Run", "run", data.runs.map((one) => [one.name, one.name]), run.name, (name) =>
        change("run", true)(data.runs.find((one) => one.name === name))),
      choice("Block", "block", unique(run.clouds.map((cloud) => cloud.block)), this.block, change("block", true)),
      choice("Embedding", "embedding", here.map((cloud) => cloud.embedding), this.embedding, change("embedding", true)),
      menu("Colour", "colour", colours, this.colour, change("colour", false)),
    );
    if (focused) this.controls.querySelector(`[data-testid="${CSS.escape(focused)}"]`)?.focus();
  }

  /** A button that switches one class or sensor off and on. */
  toggle(kind, key, text, number, mark) {
    const off = this.off[kind];
    const click = () => {
      if (!off.delete(key)) off.add(key);
      this.update(false);
      this.legend.querySelector(`[data-testid="${kind}-${CSS.escape(text)}"]`)?.focus();
    };
    return make("button", {
      type: "button", class: "entry", "aria-pressed": String(!off.has(key)), "data-testid": `${kind}-${text}`,
      title: `${text}: ${number} points; click to hide or show`, onclick: click,
    }, mark, make("span", {}, text), make("small", {}, number.toLocaleString("en")));
  }

  drawLegend() {
    const { run, data, colours } = this;
    const ink = "rgb(128 128 128 / 0.55)";
    const sensors = run.sensors.map((name) => {
      const { marker, colour } = data.sensors.find((one) => one.name === name);
      return this.toggle("sensor", name, name, run.rows, swatch(marker, this.colour === "modality" ? colour : ink));
    });
    const counts = new Map();
    for (const one of run.class) counts.set(one, (counts.get(one) ?? 0) + run.sensors.length);
    const classes = [...counts.keys()].sort((a, b) => a - b).map((one) => {
      const { name, colour } = data.classes[one];
      return this.toggle("class", one, name, counts.get(one), swatch("s", this.colour === "class" ? colour : ink));
    });
    const all = (text, chosen) =>
      make("button", { type: "button", class: "entry", "data-testid": `classes-${text}`, onclick: () => {
        this.off.class = new Set(chosen);
        this.update(false);
      } }, text);
    const row = (name, ...entries) => make("div", { class: "row" },
      make("div", { class: "name" }, ...[name].flat()), make("div", { class: "entries" }, ...entries));
    const rows = [row("sensor", ...sensors)];
    if (colours.kind === "ramp") rows.push(row(colours.title.replaceAll("_", " "), ...this.colourBar()));
    if (colours.kind === "levels") rows.push(row(colours.title.replaceAll("_", " "), ...this.levelKey()));
    const classRow = row(["class", make("div", {}, all("all", []), all("none", counts.keys()))], ...classes);
    classRow.classList.add("classes");
    rows.push(classRow);
    this.legend.replaceChildren(...rows);
  }

  /** The colours with the numbers they stand for. */
  colourBar() {
    const { low, high, codes, colours } = this.colours;
    const bar = make("canvas", { width: RAMP_STEPS, height: 1, class: "bar", "aria-hidden": "true" });
    const context = bar.getContext("2d");
    colours.forEach((colour, i) => ((context.fillStyle = colour), context.fillRect(i, 0, 1, 1)));
    const ticks = [0, 0.25, 0.5, 0.75, 1].map((share) => make("span", {}, brief(low + share * (high - low))));
    const label = `colours from ${brief(low)} to ${brief(high)}`;
    const scale = make("div", { class: "scale", role: "img", "aria-label": label, "data-testid": "colour-bar" },
      bar, make("div", { class: "ticks" }, ...ticks));
    return [scale, ...this.unknownKey(codes)];
  }

  levelKey() {
    const { labels, colours, codes } = this.colours;
    const keys = labels.map((text, i) => make("span", { class: "entry" }, swatch("s", colours[i]), text));
    return [...keys, ...this.unknownKey(codes)];
  }

  unknownKey(codes) {
    const number = codes.reduce((sum, code) => sum + (code < 0), 0);
    const text = this.colours.kind === "ramp" ? "no value" : "other or no value";
    if (!number) return [];
    return [make("span", { class: "entry" }, swatch("s", UNKNOWN), `${text}: ${number.toLocaleString("en")}`)];
  }

  drawStatus() {
    const shown = this.plot.hidden.reduce((sum, hidden) => sum - hidden, this.run.count);
    const [some, all] = [shown, this.run.count].map((number) => number.toLocaleString("en"));
    const { length } = this.points;
    this.status.replaceChildren(
      make("span", {}, `${shown < this.run.count ? `${some} of ${all}` : all} points`),
      make("span", {}, length ? `${length.toLocaleString("en")} brushed` : "none brushed"),
    );
  }

  /* What is brushed. */

  sensorOf(p) {
    return this.run.sensors[Math.floor(p / this.run.rows)];
  }

  classOf(p) {
    return this.data.classes[this.run.class[p % this.run.rows]];
  }

  sceneOf(p) {
    return this.data.scenes.ids[this.run.scene[p % this.run.rows]];
  }

  errorText(p) {
    const error = this.run.errors[this.block]?.[p];
    if (error === undefined) return "";
    return Number.isFinite(error) ? `probe error ${error.toFixed(2)}` : "no probe error";
  }

  describe(p) {
    const facts = [this.errorText(p), this.colour === "error" ? "" : this.colours.text(p).replaceAll("_", " ")];
    return [`${this.classOf(p).name} · ${this.sensorOf(p)}`, `scene ${this.sceneOf(p)}`, ...facts].filter(Boolean);
  }

  drawSelection() {
    const { points } = this;
    const number = points.length.toLocaleString("en");
    if (!points.length) {
      this.list.replaceChildren(
        make("h2", {}, "Brushed regions"),
        make("p", { class: "hint" }, HINT),
        make("p", { class: "hint" }, KEYS),
      );
      return;
    }
    const heading = make("h2", {}, `${number} brushed point${points.length > 1 ? "s" : ""}`);
    // in the order of drawing: the first points by number would all be of the first scenes
    const rank = new Uint32Array(this.run.count);
    this.plot.order.forEach((p, i) => (rank[p] = i));
    const order = [...points].sort((a, b) => rank[a] - rank[b]);
    const columns = this.columns();
    const table = make("div", { class: "patches", role: "table", "aria-label": "Patches of the brushed points" });
    table.style.setProperty("--columns", columns.length);
    const heads = columns.map(({ title, note }) => make("span", { role: "columnheader", title: note }, title));
    table.append(make("div", { class: "heads", role: "row" }, ...heads));
    const shown = make("p", { class: "shown", "data-testid": "shown" });
    const more = make("button", { type: "button", "data-testid": "more" }, "More");
    let listed = 0;
    const extend = () => {
      const next = order.slice(listed, listed + PATCHES_AT_ONCE);
      table.append(...next.map((p) => this.patchRow(p, columns)));
      listed += next.length;
      const chance = listed < order.length ? ", drawn at random" : "";
      shown.textContent = `${listed.toLocaleString("en")} of ${number} shown${chance}`;
      more.hidden = listed === order.length;
    };
    more.addEventListener("click", extend);
    extend();
    this.list.replaceChildren(heading, this.summary(points), table, make("div", { class: "foot" }, shown, more));
  }

  /** Counts of what is brushed, the largest first. */
  summary(points) {
    const tally = (name) => {
      const counts = new Map();
      for (const p of points) counts.set(name(p), (counts.get(name(p)) ?? 0) + 1);
      return [...counts].sort((a, b) => b[1] - a[1]);
    };
    const line = (label, counts) =>
      make("div", {}, make("dt", {}, label), make("dd", {}, ...counts.map(([name, count]) =>
        make("span", {}, `${name} `, make("b", {}, count.toLocaleString("en"))))));
    const scenes = new Set(points.map((p) => this.run.scene[p % this.run.rows])).size;
    const errors = points.map((p) => this.run.errors[this.block]?.[p]).filter(Number.isFinite);
    const mean = errors.reduce((sum, error) => sum + error, 0) / errors.length;
    const facts = [["scenes", scenes], ...(errors.length ? [["mean probe error", mean.toFixed(2)]] : [])];
    return make("dl", { class: "summary", "data-testid": "summary" },
      line("in all", facts),
      line("sensor", tally((p) => this.sensorOf(p))),
      line("class", tally((p) => this.classOf(p).name)));
  }

  /** The pictures of a row: what every sensor saw, the truth, and every prediction of the run. */
  columns() {
    const { scenes } = this.data;
    const seen = this.run.sensors.map((sensor) => {
      const { unit, low, high, urls } = scenes.pictures[sensor];
      const note = low === null ? sensor : `${sensor}: ${brief(low)} to ${brief(high)} ${unit}, grey is no value`;
      return { id: sensor, title: sensor, note, urls, smooth: true };
    });
    const truth = { id: "truth", title: "truth", note: "the label; grey is not labelled", urls: scenes.truth };
    const said = Object.entries(this.run.predictions).map(([sensor, urls]) => ({
      id: `prediction:${sensor}`, title: `${sensor} says`, note: `prediction from ${sensor} by ${this.run.name}`, urls,
    }));
    return [...seen, truth, ...said];
  }

  patchRow(p, columns) {
    const row = p % this.run.rows;
    const box = [...this.run.box.subarray(4 * row, 4 * row + 4)];
    const [scene, name, sensor] = [this.sceneOf(p), this.classOf(p).name, this.sensorOf(p)];
    const { marker } = this.data.sensors.find((one) => one.name === sensor);
    const facts = [`scene ${scene}`, sensor, this.errorText(p)];
    if (this.colour !== "error") facts.push(this.colours.text(p).replaceAll("_", " "));
    const text = make("div", { class: "what", role: "rowheader" },
      swatch(marker, this.classOf(p).colour), make("b", {}, name),
      ...facts.filter(Boolean).map((fact) => make("span", {}, fact)));
    const cells = columns.map(({ id, title, urls, smooth }) => {
      const attributes = {
        "data-picture": id, class: id === sensor ? "own" : null,
        "aria-label": `${title}: ${name} in scene ${scene}`,
      };
      const picture = patch(this.pictures, urls[this.run.scene[row]], box, attributes, smooth ?? false);
      return make("div", { role: "cell" }, picture);
    });
    return make("div", {
      class: "patch", role: "row", "data-testid": "patch", "data-point": p, "data-scene": scene, "data-class": name,
      "data-sensor": sensor, "data-box": box,
    }, text, ...cells);
  }

  unmount() {
    this.plot.unmount();
    this.theme.removeEventListener("change", this.repaint);
    this.themes.disconnect();
    this.root.remove();
  }
}

/**
 * Draw the explorer of `data` into `element`.
 *
 * `onSelect({run, block, selected})` is told whenever something is brushed or another run or block is shown; `selected`
 * are numbers of points of that run. Returns `{ select(points, run), unmount() }`.
 */
export function mount(element, data, { onSelect = () => {}, selected = [], run = null, block = null } = {}) {
  const view = new View(element, data, { onSelect, selected, run, block });
  return {
    select(points, run) {
      view.follow(points, run);
    },
    unmount: () => view.unmount(),
  };
}

export default {
  render({ model, el }) {
    let telling = false;
    const view = mount(el, model.get("data"), {
      selected: model.get("selected"),
      run: model.get("run"),
      block: model.get("block"),
      onSelect: (state) => {
        telling = true; // or what this view tells would come back to it
        for (const [name, value] of Object.entries(state)) model.set(name, value);
        telling = false;
        model.save_changes();
      },
    });
    const follow = () => telling || view.select(model.get("selected"), model.get("run"));
    model.on("change:selected", follow);
    return () => {
      model.off("change:selected", follow);
      view.unmount();
    };
  },
};
