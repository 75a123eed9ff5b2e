// The film: grids of several runs at one time of their training, beside the curves of their logs.

import { el, figure, fill } from "./dom.js";
import { at, getJson, getPicture, latest } from "./api.js";
import { makeChart } from "./chart.js";
import { COLOURS, colourOf, tellApart } from "./colours.js";

const FILM_SECONDS = 8;
const PICTURES_KEPT = 200;
const STATUS = {
  running: "not finished: in training, or cut off",
  interrupted: "interrupted",
  failed: "failed",
};
const beside = new Set(); // ids of the runs that stay chosen when another run is picked

export function show(place, { run, runs, fail, say }) {
  const usable = runs.filter((one) => !one.broken);
  const chosen = () => [run, ...usable.filter((one) => beside.has(one.id) && one !== run)].slice(0, COLOURS);
  const films = new Map(); // by id
  const reels = new Map(); // the shown film of a run: its elements and `draw`
  const pictures = new Map(); // of grids by address, those used last
  let times = [0];
  let timer = null;
  let source = null;

  const slider = el("input", { type: "range", min: "0", max: "0", value: "0", "aria-label": "Training time" });
  const shown = el("output", {});
  const play = el("button", { type: "button", class: "main", onclick: () => (timer ? pause() : start()) }, "Play");
  const reelPlace = el("div", { class: "reels" });
  const health = el("section", { class: "health" });
  const chartPlace = el("div", { class: "charts" });
  slider.addEventListener("input", () => {
    pause();
    move();
  });

  // --- what is chosen

  const boxes = usable.map((one) => {
    const box = el("input", { type: "checkbox", value: one.id, onchange: () => choose(one, box.checked) });
    return [one, box, el("label", {}, box, el("span", { class: "swatch", "aria-hidden": "true" }), one.name)];
  });

  function choose(one, wanted) {
    if (wanted) beside.add(one.id);
    else beside.delete(one.id);
    follow();
  }

  function tick() {
    const now = chosen();
    tellApart(now);
    for (const [one, box, label] of boxes) {
      box.checked = now.includes(one);
      box.disabled = one === run || (!box.checked && now.length >= COLOURS);
      label.lastElementChild.className = `swatch ${box.checked ? colourOf(one) : "none"}`;
    }
  }

  /** Reads the chosen films, and again whenever one grows. */
  async function follow() {
    tick();
    source?.close();
    const now = chosen();
    for (const id of films.keys()) if (!now.some((one) => one.id === id)) films.delete(id);
    await Promise.all(now.filter((one) => !films.has(one.id)).map(async (one) => films.set(one.id, await getJson(at(one, "film"))))).catch(fail);
    if (ended) return;
    draw();
    source = new EventSource(`/api/film?runs=${now.map((one) => one.id).join(",")}`);
    source.onmessage = (event) => {
      const film = JSON.parse(event.data);
      films.set(film.id, film);
      draw();
    };
    source.onopen = () => say("");
    source.onerror = () => say("The studio does not answer; what is shown no longer grows.", true);
    source.addEventListener("refused", (event) => {
      source.close();
      fail(new Error(JSON.parse(event.data).error));
    });
  }

  // --- time

  function now() {
    return times[Number(slider.value)] ?? 0;
  }

  function start() {
    if (Number(slider.value) >= times.length - 1) slider.value = "0";
    play.textContent = "Pause";
    timer = setInterval(() => {
      slider.value = String(Number(slider.value) + 1);
      move();
      if (Number(slider.value) >= times.length - 1) pause();
    }, Math.max(80, Math.min(1000, (1000 * FILM_SECONDS) / times.length)));
    move();
  }

  function pause() {
    clearInterval(timer);
    timer = null;
    play.textContent = "Play";
  }

  function move() {
    const time = now();
    shown.textContent = `${figure(time)} images shown`;
    slider.setAttribute("aria-valuetext", shown.textContent);
    for (const reel of reels.values()) reel.draw(time);
    for (const { chart } of charts.values()) chart.at(time);
  }

  // --- reels

  async function picture(address) {
    const known = pictures.get(address) ?? (await getPicture(address));
    pictures.delete(address);
    pictures.set(address, known);
    if (pictures.size > PICTURES_KEPT) pictures.delete(pictures.keys().next().value);
    return known;
  }

  function makeReel(one) {
    const canvas = el("canvas", { role: "img" });
    const caption = el("p", { class: "quiet" });
    const heading = el("h3", {}, el("span", { class: `swatch ${colourOf(one)}`, "aria-hidden": "true" }), one.name);
    const element = el("section", { class: "reel" }, heading, canvas, caption);
    const draw = latest(async (time) => {
      const film = films.get(one.id);
      if (!film) return;
      const images = film.grids.filter((images) => images <= time).at(-1);
      if (images === undefined) {
        canvas.hidden = true;
        caption.textContent = film.grids.length ? "" : "This run holds no grids: an exported generator keeps none of its training.";
        return;
      }
      const drawn = await picture(at(one, "grid.png", { images }));
      canvas.hidden = false;
      canvas.width = drawn.width;
      canvas.height = drawn.height;
      canvas.getContext("2d").drawImage(drawn, 0, 0);
      canvas.dataset.images = String(images);
      canvas.setAttribute("aria-label", `Grid of generated images of ${one.name} after ${figure(images)} images shown`);
      const over = images === film.grids.at(-1) && (time > images || images === times.at(-1));
      const end = over ? (STATUS[film.status] ?? "the end") : null;
      caption.textContent = [`after ${figure(images)} images`, end].filter(Boolean).join("; ");
    }, fail);
    return { element, draw };
  }

  // --- curves

  const charts = new Map();

  function chartFor(key, options) {
    if (!charts.has(key)) charts.set(key, { chart: makeChart({ ...options, onpick: pick }), key });
    return charts.get(key).chart;
  }

  function pick(images) {
    const nearest = times.reduce((best, time, k) => (Math.abs(time - images) < Math.abs(times[best] - images) ? k : best), 0);
    pause();
    slider.value = String(nearest);
    move();
  }

  function lineOf(one, name, dashed, points, mark) {
    return { name: chosen().length > 1 ? `${one.name}: ${name}` : name, colour: colourOf(one), dashed, points, mark };
  }

  function drawCharts() {
    const all = chosen().filter((one) => films.has(one.id));
    const end = times.at(-1);
    const pairs = (first, second) => all.flatMap((one) => {
      const curves = films.get(one.id).curves;
      return [lineOf(one, first[1], false, curves[first[0]]), lineOf(one, second[1], true, curves[second[0]])];
    });
    const lossHint = [
      all.length > 1 ? "Different losses cannot be compared, and a loss does not measure pictures." : "A loss does not measure pictures.",
      all.some((one) => films.get(one.id).thinned) ? "Of a long log the lowest and highest values of each stretch are drawn, here and below." : "",
    ].join(" ").trim();
    const kept = new Set(["loss", "accuracy"]);
    chartFor("loss", { title: "Losses" }).update(pairs(["loss_g", "generator"], ["loss_d", "discriminator"]), end, lossHint);
    chartFor("accuracy", { title: "The discriminator's accuracy", share: true })
      .update(pairs(["d_accuracy_real", "on real images"], ["d_accuracy_fake", "on generated images"]), end, "At 50 % the discriminator is fooled.");
    const measured = all.filter((one) => films.get(one.id).heldout);
    for (const key of new Set(measured.map((one) => films.get(one.id).heldout.measured))) {
      const alike = measured.filter((one) => films.get(one.id).heldout.measured === key);
      const { score, data } = films.get(alike[0].id).heldout;
      kept.add(key);
      const lines = alike.map((one) => lineOf(one, "distance", false, films.get(one.id).heldout.points, films.get(one.id).heldout.best));
      chartFor(key, { title: "Distance to held-out images", log: true })
        .update(lines, end, `${score} on ${data}: lower is better; logarithmic; the ring marks the best.`);
    }
    for (const key of charts.keys()) {
      if (kept.has(key)) continue;
      charts.get(key).chart.end();
      charts.delete(key);
    }
    const elements = [...charts.values()].map(({ chart }) => chart.element);
    if (elements.some((element) => element.parentNode !== chartPlace) || elements.length !== chartPlace.children.length) fill(chartPlace, elements);
  }

  // --- all of it

  function drawHealth() {
    const found = chosen().filter((one) => films.has(one.id)).map((one) =>
      el("li", {},
        el("span", { class: `swatch ${colourOf(one)}`, "aria-hidden": "true" }), el("b", {}, one.name),
        el("ul", {}, films.get(one.id).notes.map((note) => el("li", { class: `note ${note.kind}` },
          note.kind === "quiet" ? null : el("b", {}, note.kind === "alarm" ? "Alarm: " : note.kind === "sign" ? "Sign: " : "Failure: "),
          note.text, note.images === null ? null : ` (from ${figure(note.images)} images on)`)))));
    fill(health, el("h3", {}, "Notes on health"), el("ul", { class: "runs-notes" }, found));
  }

  function draw() {
    const all = chosen();
    const before = now();
    const atEnd = Number(slider.value) >= times.length - 1;
    const every = all.flatMap((one) => {
      const film = films.get(one.id);
      return film ? [...film.grids, ...film.curves.loss_g.map((point) => point[0])] : [];
    });
    times = [...new Set([0, ...every])].sort((a, b) => a - b);
    slider.max = String(times.length - 1);
    slider.value = String(atEnd && !timer ? times.length - 1 : times.filter((time) => time <= before).length - 1);
    slider.disabled = play.disabled = times.length < 2;
    for (const id of reels.keys()) if (!all.some((one) => one.id === id)) reels.delete(id);
    for (const one of all) if (!reels.has(one.id)) reels.set(one.id, makeReel(one));
    const elements = all.map((one) => reels.get(one.id).element);
    if (elements.some((element, k) => reelPlace.children[k] !== element) || elements.length !== reelPlace.children.length) fill(reelPlace, elements);
    drawCharts();
    drawHealth();
    move();
    place.dataset.grown = String(Number(place.dataset.grown ?? 0) + 1);
  }

  let ended = false;
  fill(
    place,
    el("h2", {}, "Film"),
    el("p", { class: "quiet" }, "How the same noises turn into images as the training goes on."),
    usable.length > 1 ? el("fieldset", { class: "chosen" }, el("legend", {}, "Runs"), boxes.map(([, , label]) => label)) : null,
    el("div", { class: "transport" }, play, slider, shown),
    el("div", { class: "film-beside" }, el("div", {}, reelPlace, health), chartPlace),
  );
  follow().catch(fail);
  return () => {
    ended = true;
    pause();
    source?.close();
    for (const { chart } of charts.values()) chart.end();
  };
}
