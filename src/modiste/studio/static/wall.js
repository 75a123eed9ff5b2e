// The wall: a class per row, a seed per column. A click on an image shows what it is and what made it.

import { MOST_SEED, choice, commandLine, el, field, fill, nameLine, rove, seedField, truncationField } from "./dom.js";
import { neighbourView } from "./neighbours.js";
import { at, getJson, getPicture, latest } from "./api.js";

const ALL = "all";
const MOST_IMAGES = 400;

export async function show(place, { run, fail }) {
  const narrow = window.matchMedia("(max-width: 40rem)").matches;
  const columns = Math.max(1, Math.min(narrow ? 6 : 10, Math.floor(MOST_IMAGES / Math.max(1, run.classes.length))));
  const state = { first: 0, truncation: null, label: ALL, checkpoint: run.checkpoints[0], chosen: null };
  const canvas = el("canvas", { "aria-hidden": "true" });
  const cells = el("div", { class: "cells", role: "grid", "aria-label": "Generated images" });
  const names = el("div", { class: "row-names", "aria-hidden": "true" });
  const about = el("div", { "aria-live": "polite" });
  const near = el("div", { class: "near" });
  const facts = el("aside", { class: "facts" }, about, near);
  const neighbours = neighbourView(near, run);
  const truncation = truncationField((value) => {
    state.truncation = value;
    draw();
  });
  const first = seedField("First seed", 0, move);

  const labels = run.classes.map((name, number) => [String(number), name]);
  const controls = el(
    "form",
    { class: "controls", onsubmit: (event) => event.preventDefault() },
    truncation,
    first.field,
    run.classes.length
      ? field("Class", choice([[ALL, "all classes"], ...labels], ALL, (event) => {
          state.label = event.target.value;
          layOut();
        }))
      : null,
    run.checkpoints.length > 1
      ? field("Checkpoint", choice(run.checkpoints.map((name) => [name, name]), state.checkpoint, (event) => {
          state.checkpoint = event.target.value;
          draw();
        }))
      : null,
    el("button", { type: "button", onclick: () => move(state.first - shown().seeds.length) }, "Earlier seeds"),
    el("button", { type: "button", onclick: () => move(state.first + shown().seeds.length) }, "More seeds"),
  );

  function shown() {
    const all = state.label === ALL && run.classes.length > 0;
    const count = all ? columns : columns * 10;
    const seeds = Array.from({ length: count }, (_, k) => state.first + k);
    return { seeds, classes: all ? run.classes.map((_, k) => k) : run.classes.length ? [Number(state.label)] : [] };
  }

  /** Each image's seed and class, row by row. */
  function points() {
    const { seeds, classes } = shown();
    if (!classes.length) return seeds.map((seed) => ({ seed, label: null }));
    return classes.flatMap((label) => seeds.map((seed) => ({ seed, label })));
  }

  function move(first_seed) {
    state.first = Math.max(0, Math.min(MOST_SEED, first_seed));
    first.set(state.first);
    layOut();
  }

  function nameOf(point) {
    return point.label === null ? `seed ${point.seed}` : `${run.classes[point.label]}, seed ${point.seed}`;
  }

  function layOut() {
    const all = points();
    cells.style.setProperty("--columns", columns);
    fill(
      cells,
      Array.from({ length: Math.ceil(all.length / columns) }, (_, row) =>
        el("div", { role: "row" }, all.slice(row * columns, (row + 1) * columns).map((point, column) =>
          el("button", {
            type: "button",
            role: "gridcell",
            "aria-label": nameOf(point),
            tabindex: row + column ? "-1" : "0",
            onclick: (event) => choose(point, event.currentTarget),
          }))),
      ),
    );
    const rows = shown().classes.length > 1 ? run.classes : [];
    fill(names, rows.map(nameLine));
    wall.classList.toggle("named", rows.length > 0);
    draw();
  }

  const draw = latest(async () => {
    const { seeds, classes } = shown();
    const one = classes.length < 2;
    const values = { seeds, labels: classes.length ? classes : null, truncation: state.truncation, checkpoint: state.checkpoint };
    const picture = await getPicture(at(run, "wall.png", one ? { ...values, columns } : values));
    canvas.width = picture.width;
    canvas.height = picture.height;
    canvas.getContext("2d").drawImage(picture, 0, 0);
    canvas.dataset.drawn = String(Number(canvas.dataset.drawn ?? 0) + 1);
    if (state.chosen) await tell(state.chosen);
  }, fail);

  async function choose(point, cell) {
    cells.querySelector("[aria-selected]")?.removeAttribute("aria-selected");
    cell.setAttribute("aria-selected", "true");
    state.chosen = point;
    await tell(point).catch(fail);
  }

  const tell = latest(async (point) => {
    const values = { seed: point.seed, label: point.label, truncation: state.truncation, checkpoint: state.checkpoint };
    const made = await getJson(at(run, "image", values));
    fill(
      about,
      el("h3", {}, nameOf(point)),
      el("img", { class: "large", src: at(run, "image.png", values), alt: `Generated image: ${nameOf(point)}`, width: "224", height: "224" }),
      el("p", {}, "The command that makes this image:"),
      commandLine(made.command),
    );
    neighbours.show(values);
  }, fail);

  rove(cells, () => columns);
  const wall = el("div", { class: "wall-frame" }, names, el("div", { class: "wall-images" }, canvas, cells));
  fill(about, el("p", { class: "quiet" }, "Choose an image to see its seed, its command and its nearest training images."));
  fill(place, el("h2", {}, "Wall"), controls, el("div", { class: "beside" }, wall, facts));
  layOut();
  return neighbours.end;
}
