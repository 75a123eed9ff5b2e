// The nearest training images of a generated image, by pixels and by features.

import { el, fill } from "./dom.js";
import { at, getJson, pause } from "./api.js";

const SETTLED = 250;
const AGAIN = 700;

/** What shows the neighbours of the image with these values in `place`; each call ends the one before. */
export function neighbourView(place, run) {
  let turn = 0;

  async function show(values) {
    const now = ++turn;
    await pause(SETTLED); // a slider may still be moving
    try {
      for (;;) {
        if (now !== turn) return;
        const found = await getJson(at(run, "neighbours", values));
        if (now !== turn) return;
        fill(place, el("h4", {}, "Nearest training images"), spaceOf(run, "By pixels", found.pixels), spaceOf(run, found.features.working ? "By features" : `By the features of ${found.features.features_of}`, found.features));
        if (!found.pixels.working && !found.features.working) break;
        await pause(AGAIN);
      }
      place.dataset.seed = String(values.seed);
    } catch (error) {
      if (now === turn) fill(place, el("h4", {}, "Nearest training images"), el("p", {}, `They cannot be shown: ${error.message}.`));
    }
  }

  return { show, end: () => turn++ };
}

function spaceOf(run, title, space) {
  if (space.working) return [el("h5", {}, title), el("p", { class: "quiet working" }, `${space.working} …`)];
  const pictures = space.rows.map((row, k) => {
    const name = space.classes ? space.classes[k] : "training image";
    const distance = space.distances[k].toFixed(2);
    const alt = `Training image ${row}, ${name}, distance ${distance}`;
    return el("li", {}, el("img", { src: at(run, "training.png", { rows: row }), alt, width: "56", height: "56" }), el("small", {}, distance));
  });
  return [
    el("h5", {}, title),
    el("ol", { class: "neighbours" }, pictures),
    el("p", { class: space.near_copy ? "verdict error" : "verdict" }, space.sentence),
  ];
}
