// Steps along directions of the noise: a slider each, and a row of images that all take the steps.

import { choice, commandLine, el, field, fill, seedField, slider } from "./dom.js";
import { at, getJson, getPicture, latest } from "./api.js";

const IMAGES = 6;
const MOST = 3;

export function alongDirections(run, shared, fail) {
  const state = { first: 0, label: 0, steps: {}, known: null, of: null };
  const row = el("canvas", { class: "strip", role: "img" });
  const sliders = el("div", { class: "steps" });
  const about = el("div", { class: "about-path", "aria-live": "polite" });
  const seed = seedField("First seed", 0, (first) => {
    state.first = first;
    draw();
  });
  const word = (value) => (value ? `${value > 0 ? "+" : ""}${value}` : "0");
  const taken = () => Object.entries(state.steps).filter(([, step]) => step);

  function offer(found) {
    state.steps = {};
    if (found.command) {
      fill(sliders, el("p", {}, "No directions are known of this generator yet. This command finds them:"), commandLine(found.command));
      return;
    }
    const made = found.directions.map((one) => {
      const range = { min: -MOST, max: MOST, step: "0.25", value: "0" };
      return [one.name, slider(one.name, range, word, (value) => {
        state.steps[one.name] = value;
        draw();
      }, one.about)];
    });
    const back = el("button", { type: "button", onclick: () => {
      state.steps = {};
      made.forEach(([, one]) => one.set(0));
      draw();
    } }, "All back to 0");
    const hint = el("p", { class: "quiet" }, "Below each: what a step of 1 moves, in standard deviations within a class.");
    fill(sliders, hint, made.map(([, one]) => one.field), back);
  }

  const draw = latest(async () => {
    if (state.of !== shared.checkpoint) {
      const found = await getJson(at(run, "directions", { checkpoint: shared.checkpoint }));
      state.of = shared.checkpoint;
      offer(found);
    }
    const values = {
      seeds: Array.from({ length: IMAGES }, (_, k) => state.first + k),
      label: run.classes.length ? state.label : null,
      steps: taken().map(([name, step]) => `${name}=${step}`),
      ...shared,
    };
    const [picture, made] = await Promise.all([getPicture(at(run, "steered.png", values)), getJson(at(run, "steered", values))]);
    row.width = picture.width;
    row.height = picture.height;
    row.getContext("2d").drawImage(picture, 0, 0);
    const steps = taken().map(([name, step]) => `${name} ${word(step)}`).join(", ") || "no step";
    row.setAttribute("aria-label", `Generated images of the seeds ${state.first} to ${state.first + IMAGES - 1}, ${steps}`);
    fill(about, el("p", {}, "The command that makes these images:"), commandLine(made.command));
    row.dataset.drawn = String(Number(row.dataset.drawn ?? 0) + 1);
  }, fail);

  const pairs = run.classes.map((name, number) => [String(number), name]);
  const controls = el(
    "form",
    { class: "controls", onsubmit: (event) => event.preventDefault() },
    seed.field,
    run.classes.length
      ? field("Class", choice(pairs, "0", (event) => {
          state.label = Number(event.target.value);
          draw();
        }))
      : null,
  );
  const element = el("section", { class: "along" }, el("h3", {}, "Along directions"), controls, row, sliders, about);
  return { element, draw };
}
