// A line chart as SVG: numbers in, a figure out with a sentence, a legend of values at the cursor and a table.

import { el, figure, fill } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 200;
const MARGIN = { left: 46, right: 10, top: 10, bottom: 34 };
const MOST_ROWS = 40;
const FEW_POINTS = 12; // of a line, which shows them as dots too

function svg(tag, properties = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(properties)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Round numbers from low to high, about so many. */
export function ticksOf(low, high, count = 5) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= rough * 0.99);
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, k) => (first + k) * step);
}

/** 1, 2 and 5 times powers of ten from low to high, fewer of them over many powers; round numbers over less than one. */
export function logTicksOf(low, high) {
  const powers = Math.log10(high / low);
  if (powers < 1) return ticksOf(low, high, 4);
  const factors = powers > 3 ? [1] : powers > 1.5 ? [1, 3] : [1, 2, 5];
  const first = Math.floor(Math.log10(low));
  const all = Array.from({ length: Math.ceil(powers) + 2 }, (_, k) => factors.map((factor) => factor * 10 ** (first + k)));
  return all.flat().filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
}

/** A value with three digits that count or more. */
function short(value) {
  const size = Math.abs(value);
  const digits = size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 4;
  return value.toLocaleString("en-GB", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** A tick of the vertical axis. */
function tickText(value) {
  return figure(value, Math.abs(value) >= 10 ? 1 : 4);
}

/** The value at a time or the last one before it. */
function valueAt(points, time) {
  let found = null;
  for (const point of points) {
    if (point[0] > time) break;
    found = point[1];
  }
  return found;
}

/**
 * A chart that `update` fills with lines up to an end of its time, with a hint below, and that `at` sets to a time.
 * A line is {name, colour, dashed, points, mark}: points are [images shown, value], `mark` is the time of a marked one. `share` shows values as per cent
 * from 0 to 100, `log` on a logarithmic axis where all are above 0. `onpick` gets the time of a click.
 */
export function makeChart({ title, share = false, log = false, onpick }) {
  const host = el("div", { class: "plot" });
  const legend = el("ul", { class: "legend" });
  const note = el("p", { class: "quiet" });
  const body = el("tbody");
  const head = el("thead");
  const caption = el("caption");
  const table = el("details", {}, el("summary", {}, "As a table"), el("div", { class: "table" }, el("table", {}, caption, head, body)));
  const element = el("figure", { class: "chart" }, el("figcaption", {}, title), host, legend, note, table);
  const text = share ? (value) => `${figure(100 * value, 1)} %` : short;
  let lines = [];
  let last = 1;
  let time = Infinity;
  let cursor = null;
  let place = null; // the horizontal place of a time

  function draw() {
    const width = host.clientWidth;
    if (!width) return;
    const values = lines.flatMap((line) => line.points.map((point) => point[1]));
    const isLog = log && values.every((value) => value > 0);
    let [low, high] = share ? [0, 1] : [Math.min(...values), Math.max(...values)];
    if (!share && isLog) [low, high] = [low / 1.15, high * 1.15];
    else if (!share) {
      const room = (high - low || Math.abs(high) || 1) * 0.06;
      [low, high] = [low >= 0 && low < high / 2 ? 0 : low - room, high + room];
    }
    const [left, right] = [MARGIN.left, width - MARGIN.right];
    const [top, bottom] = [MARGIN.top, HEIGHT - MARGIN.bottom];
    const part = isLog ? (value) => Math.log(value / low) / Math.log(high / low) : (value) => (value - low) / (high - low);
    const y = (value) => bottom - part(value) * (bottom - top);
    place = (images) => left + (Math.min(images, last) / last) * (right - left);
    const marks = share ? [0, 0.25, 0.5, 0.75, 1] : isLog ? logTicksOf(low, high) : ticksOf(low, high, 4);
    const rows = marks.flatMap((tick) => [
      svg("line", { class: share && tick === 0.5 ? "grid half" : "grid", x1: left, x2: right, y1: y(tick), y2: y(tick) }),
      svg("text", { x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, share ? `${100 * tick} %` : tickText(tick)),
    ]);
    const columns = ticksOf(0, last, width > 420 ? 5 : 3).map((tick) =>
      svg("text", { x: place(tick), y: bottom + 16, "text-anchor": "middle" }, figure(tick / 1000, 3)));
    const drawn = lines.flatMap((line) => shapes(line, place, y));
    cursor = svg("line", { class: "cursor", y1: top, y2: bottom });
    const label = svg("text", { x: (left + right) / 2, y: HEIGHT - 3, "text-anchor": "middle" }, "images shown (thousands)");
    const picture = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, height: HEIGHT, role: "img", "aria-label": sentence() },
      ...rows, ...columns, label, ...drawn, cursor);
    picture.addEventListener("pointerdown", (event) => {
      const share_of = (event.clientX - picture.getBoundingClientRect().left - left) / (right - left);
      onpick?.(Math.max(0, Math.min(1, share_of)) * last);
    });
    fill(host, picture);
    move();
  }

  function shapes(line, x, y) {
    const found = [];
    if (line.points.length > 1) {
      const path = line.points.map(([images, value], k) => `${k ? "L" : "M"}${x(images).toFixed(1)} ${y(value).toFixed(1)}`);
      found.push(svg("path", { class: `line ${line.colour}${line.dashed ? " dashed" : ""}`, d: path.join("") }));
    }
    if (line.points.length <= FEW_POINTS) {
      for (const [images, value] of line.points) {
        found.push(svg("circle", { class: `dot ${line.colour}${line.dashed ? " hollow" : ""}`, cx: x(images), cy: y(value), r: 4 }));
      }
    }
    const marked = line.points.find(([images]) => images === line.mark);
    if (marked) found.push(svg("circle", { class: `ring ${line.colour}`, cx: x(marked[0]), cy: y(marked[1]), r: 7 }));
    return found;
  }

  function sentence() {
    const ends = lines.map((line) => {
      const values = line.points.map((point) => point[1]);
      const [first, final] = [values[0], values.at(-1)];
      if (values.length === 1) return `${line.name} ${text(final)} (one tick)`;
      return `${line.name} from ${text(first)} to ${text(final)}, between ${text(Math.min(...values))} and ${text(Math.max(...values))}`;
    });
    return `${title} over images shown: ${ends.join("; ")}`;
  }

  function move() {
    const x = place ? place(Math.min(time, last)).toFixed(1) : "0";
    cursor?.setAttribute("x1", x);
    cursor?.setAttribute("x2", x);
    fill(legend, lines.map((line) => {
      const value = valueAt(line.points, time);
      const swatch = el("span", { class: `swatch ${line.colour}${line.dashed ? " dashed" : ""}`, "aria-hidden": "true" });
      return el("li", {}, swatch, line.name, " ", el("b", {}, value === null ? "-" : text(value)));
    }));
  }

  function tabulate() {
    if (!table.open) return;
    const times = [...new Set(lines.flatMap((line) => line.points.map((point) => point[0])))].sort((a, b) => a - b);
    const count = Math.min(MOST_ROWS, times.length);
    const chosen = [...new Set(Array.from({ length: count }, (_, k) => times[Math.round((k * (times.length - 1)) / Math.max(1, count - 1))]))];
    caption.textContent = chosen.length < times.length ? `${chosen.length} of ${times.length} drawn ticks` : "";
    fill(head, el("tr", {}, el("th", { scope: "col" }, "images shown"), lines.map((line) => el("th", { scope: "col" }, line.name))));
    const values = lines.map((line) => new Map(line.points));
    fill(body, chosen.map((images) => el("tr", {}, el("td", { class: "number" }, figure(images)),
      values.map((of) => el("td", { class: "number" }, of.has(images) ? text(of.get(images)) : "-")))));
  }

  table.addEventListener("toggle", tabulate);
  const observer = new ResizeObserver(draw);
  observer.observe(host);
  return {
    element,
    update(newLines, end, hint) {
      note.textContent = hint;
      lines = newLines.filter((line) => line.points.length);
      last = end || 1;
      element.hidden = !lines.length;
      if (lines.length) {
        draw();
        tabulate();
      }
    },
    at(newTime) {
      time = newTime;
      move();
    },
    end: () => observer.disconnect(),
  };
}
