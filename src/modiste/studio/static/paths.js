// Paths through the noise: between two images, along directions, over a map of four, and one noise in every class.

import { MOST_SEED, choice, commandLine, drawTile, el, field, fill, nameLine, seedField, slider, truncationField } from "./dom.js";
import { at, getJson, getPicture, latest } from "./api.js";
import { alongDirections } from "./steer.js";

const FRAMES = 61;
const FRAME_COLUMNS = 10;
const STRIP = 11;
const PASS_SECONDS = 4;
const MAP_SIDE = 25;
const MAP_SHOWN = 9;

export async function show(place, { run, fail }) {
  const shared = { truncation: null, checkpoint: run.checkpoints[0] };
  const parts = [between(run, shared, fail), alongDirections(run, shared, fail), map(run, shared, fail)];
  if (run.classes.length) parts.push(everyClass(run, shared, fail));
  const drawAll = () => parts.forEach((part) => part.draw());
  const controls = el(
    "form",
    { class: "controls", onsubmit: (event) => event.preventDefault() },
    truncationField((value) => {
      shared.truncation = value;
      drawAll();
    }),
    run.checkpoints.length > 1
      ? field("Checkpoint", choice(run.checkpoints.map((name) => [name, name]), shared.checkpoint, (event) => {
          shared.checkpoint = event.target.value;
          drawAll();
        }))
      : null,
  );
  fill(place, el("h2", {}, "Paths"), controls, parts.map((part) => part.element));
  drawAll();
  return () => parts.forEach((part) => part.end?.());
}

function classField(run, text, value, onvalue) {
  if (!run.classes.length) return null;
  const pairs = run.classes.map((name, number) => [String(number), name]);
  return field(text, choice(pairs, String(value), (event) => onvalue(Number(event.target.value))));
}

function anySeed() {
  return Math.floor(Math.random() * 10000);
}

// --- between two images

function between(run, shared, fail) {
  const state = { seeds: [0, 1], labels: [0, 0], frame: 0, picture: null, playing: 0 };
  const large = el("canvas", { class: "large", role: "img" });
  const strip = el("canvas", { class: "strip", "aria-hidden": "true" });
  const about = el("div", { class: "about-path", "aria-live": "polite" });
  const way = (frame) => `${Math.round((100 * frame) / (FRAMES - 1))} %`;
  const scrub = slider("Position", { min: "0", max: FRAMES - 1, step: "1", value: "0" }, way, (frame) => {
    stop();
    show(frame);
  });
  const play = el("button", { type: "button", class: "main", onclick: () => (state.playing ? stop() : start()) }, "Play");
  const first = seedField("From seed", 0, (seed) => change(0, seed));
  const last = seedField("To seed", 1, (seed) => change(1, seed));

  function change(end, seed) {
    state.seeds[end] = seed;
    draw();
  }

  function nameOf(end) {
    return run.classes.length ? `${run.classes[state.labels[end]]}, seed ${state.seeds[end]}` : `seed ${state.seeds[end]}`;
  }

  function show(frame) {
    state.frame = frame;
    scrub.set(frame);
    if (!state.picture) return;
    drawTile(large, state.picture, run.side, FRAME_COLUMNS, frame);
    large.setAttribute("aria-label", `Generated image ${way(frame)} of the way from ${nameOf(0)} to ${nameOf(1)}`);
    large.dataset.frame = String(frame);
  }

  const draw = latest(async () => {
    const values = { seeds: state.seeds, labels: run.classes.length ? state.labels : null, ...shared };
    const [picture, made] = await Promise.all([
      getPicture(at(run, "path.png", { ...values, frames: FRAMES })),
      getJson(at(run, "path", values)),
    ]);
    state.picture = picture;
    strip.width = STRIP * run.side;
    strip.height = run.side;
    for (let k = 0; k < STRIP; k++) {
      const frame = (k * (FRAMES - 1)) / (STRIP - 1);
      const [left, top] = [frame % FRAME_COLUMNS, Math.floor(frame / FRAME_COLUMNS)];
      strip.getContext("2d").drawImage(picture, left * run.side, top * run.side, run.side, run.side, k * run.side, 0, run.side, run.side);
    }
    show(state.frame);
    fill(
      about,
      made.command
        ? [el("p", {}, "The command that makes this path:"), commandLine(made.command)]
        : el("p", {}, "On the way the class is mixed, too. No network learns that: what stands in the middle belongs to no class."),
    );
    strip.dataset.drawn = String(Number(strip.dataset.drawn ?? 0) + 1);
  }, fail);

  function start() {
    const begun = performance.now();
    const from = state.frame >= FRAMES - 1 ? 0 : state.frame;
    play.textContent = "Pause";
    const step = (now) => {
      const passed = from + ((now - begun) / 1000 / PASS_SECONDS) * (FRAMES - 1);
      const place = passed % (2 * (FRAMES - 1)); // there and back
      show(Math.round(place < FRAMES ? place : 2 * (FRAMES - 1) - place) % FRAMES);
      state.playing = requestAnimationFrame(step);
    };
    state.playing = requestAnimationFrame(step);
  }

  function stop() {
    cancelAnimationFrame(state.playing);
    state.playing = 0;
    play.textContent = "Play";
  }

  strip.addEventListener("click", (event) => {
    stop();
    const share = event.offsetX / strip.clientWidth;
    show(Math.max(0, Math.min(FRAMES - 1, Math.round((share * STRIP - 0.5) * ((FRAMES - 1) / (STRIP - 1))))));
  });

  const controls = el(
    "form",
    { class: "controls", onsubmit: (event) => event.preventDefault() },
    first.field,
    classField(run, "Its class", 0, (label) => {
      state.labels[0] = label;
      draw();
    }),
    last.field,
    classField(run, "Its class", 0, (label) => {
      state.labels[1] = label;
      draw();
    }),
    el("button", { type: "button", onclick: () => {
      state.seeds = [anySeed(), anySeed()];
      first.set(state.seeds[0]);
      last.set(state.seeds[1]);
      draw();
    } }, "Other ends"),
  );
  const element = el(
    "section",
    { class: "between" },
    el("h3", {}, "Between two images"),
    controls,
    el("div", { class: "path" }, large, el("div", { class: "path-way" }, strip, scrub.field, play, about)),
  );
  return { element, draw, end: stop };
}

// --- a map of the noise between four seeds

function map(run, shared, fail) {
  const state = { first: 0, label: 0, picture: null, across: (MAP_SIDE - 1) / 2, down: (MAP_SIDE - 1) / 2 };
  const large = el("canvas", { class: "large", role: "img" });
  const shown = el("canvas", { "aria-hidden": "true" });
  const marker = el("div", { class: "marker" });
  const plane = el(
    "div",
    { class: "plane", role: "application", tabindex: "0", "aria-roledescription": "map", "aria-describedby": "map-help" },
    shown,
    marker,
  );
  const where = el("p", { class: "quiet", "aria-live": "polite" });
  const first = seedField("Seed of the first corner", 0, move);
  const scale = (MAP_SIDE - 1) / (MAP_SHOWN - 1); // points of the map per shown image

  function move(seed) {
    state.first = seed;
    first.set(state.first);
    draw();
  }

  function go(across, down) {
    state.across = Math.max(0, Math.min(MAP_SIDE - 1, across));
    state.down = Math.max(0, Math.min(MAP_SIDE - 1, down));
    marker.style.left = `${((state.across / scale) * 100) / MAP_SHOWN}%`;
    marker.style.top = `${((state.down / scale) * 100) / MAP_SHOWN}%`;
    const percent = (value) => `${Math.round((100 * value) / (MAP_SIDE - 1))} %`;
    where.textContent = `${percent(state.across)} across, ${percent(state.down)} down`;
    plane.setAttribute("aria-label", `Map of the noise, ${where.textContent}`);
    plane.dataset.at = `${state.across},${state.down}`;
    if (!state.picture) return;
    drawTile(large, state.picture, run.side, MAP_SIDE, state.down * MAP_SIDE + state.across);
    large.setAttribute("aria-label", `Generated image ${where.textContent} between seeds ${state.first} to ${state.first + 3}`);
  }

  const draw = latest(async () => {
    const seeds = [0, 1, 2, 3].map((k) => state.first + k);
    const values = { seeds, label: run.classes.length ? state.label : null, side: MAP_SIDE, ...shared };
    plane.setAttribute("aria-busy", "true");
    try {
      state.picture = await getPicture(at(run, "map.png", values));
    } finally {
      plane.removeAttribute("aria-busy");
    }
    const side = run.side;
    shown.width = MAP_SHOWN * side;
    shown.height = MAP_SHOWN * side;
    const pen = shown.getContext("2d");
    for (let k = 0; k < MAP_SHOWN ** 2; k++) {
      const [x, y] = [k % MAP_SHOWN, Math.floor(k / MAP_SHOWN)];
      pen.drawImage(state.picture, x * scale * side, y * scale * side, side, side, x * side, y * side, side, side);
    }
    go(state.across, state.down);
    plane.dataset.drawn = String(Number(plane.dataset.drawn ?? 0) + 1);
  }, fail);

  function follow(event) {
    const box = plane.getBoundingClientRect();
    const point = (share) => Math.round((share * MAP_SHOWN - 0.5) * scale);
    go(point((event.clientX - box.left) / box.width), point((event.clientY - box.top) / box.height));
  }

  plane.addEventListener("pointerdown", (event) => {
    plane.setPointerCapture(event.pointerId);
    follow(event);
  });
  plane.addEventListener("pointermove", (event) => {
    if (event.buttons) follow(event);
  });
  plane.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (!(event.key in steps)) return;
    event.preventDefault();
    go(state.across + steps[event.key][0], state.down + steps[event.key][1]);
  });

  const controls = el(
    "form",
    { class: "controls", onsubmit: (event) => event.preventDefault() },
    first.field,
    classField(run, "Class", 0, (label) => {
      state.label = label;
      draw();
    }),
    el("button", { type: "button", onclick: () => move(anySeed()) }, "Other corners"),
  );
  const element = el(
    "section",
    { class: "map" },
    el("h3", {}, "A map of the noise"),
    el("p", { id: "map-help" }, "Four seeds are the corners, and every other place lies between them. Drag, or press the arrow keys, to move over it."),
    controls,
    el("div", { class: "path" }, el("div", {}, large, where), plane),
  );
  return { element, draw };
}

// --- one noise in every class

function everyClass(run, shared, fail) {
  const rows = Math.max(1, Math.min(5, Math.floor(400 / run.classes.length)));
  const state = { first: 0 };
  const canvas = el("canvas", { role: "img" });
  const seeds = el("div", { class: "row-names", "aria-hidden": "true" });
  const first = seedField("First seed", 0, move);

  function move(seed) {
    state.first = Math.max(0, Math.min(seed, MOST_SEED));
    first.set(state.first);
    draw();
  }

  const draw = latest(async () => {
    const chosen = Array.from({ length: rows }, (_, k) => state.first + k);
    const picture = await getPicture(at(run, "wall.png", { seeds: chosen, labels: run.classes.map((_, k) => k), ...shared }));
    const side = run.side;
    canvas.width = run.classes.length * side;
    canvas.height = rows * side;
    const pen = canvas.getContext("2d");
    for (let x = 0; x < run.classes.length; x++)
      for (let y = 0; y < rows; y++) pen.drawImage(picture, y * side, x * side, side, side, x * side, y * side, side, side);
    canvas.setAttribute("aria-label", `Seeds ${chosen[0]} to ${chosen[rows - 1]}, a row each, in all classes: ${run.classes.join(", ")}`);
    canvas.dataset.drawn = String(Number(canvas.dataset.drawn ?? 0) + 1);
    fill(seeds, chosen.map((seed) => el("span", {}, `seed ${seed}`)));
  }, fail);

  const names = el("div", { class: "column-names", "aria-hidden": "true" }, run.classes.map(nameLine));
  const frame = el("div", { class: "class-frame" }, el("span", {}), names, seeds, canvas);
  frame.style.setProperty("--columns", run.classes.length);
  const controls = el(
    "form",
    { class: "controls", onsubmit: (event) => event.preventDefault() },
    first.field,
    el("button", { type: "button", onclick: () => move(state.first - rows) }, "Earlier seeds"),
    el("button", { type: "button", onclick: () => move(state.first + rows) }, "More seeds"),
  );
  const element = el(
    "section",
    { class: "every-class" },
    el("h3", {}, "One noise in every class"),
    el("p", {}, "Each row is one noise, each column a class: what stays the same along a row comes from the noise."),
    controls,
    el("div", { class: "table" }, frame),
  );
  return { element, draw };
}
