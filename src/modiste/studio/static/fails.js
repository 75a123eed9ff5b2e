// Where it fails: the worst classes, real images that nothing generated comes near, and what the judge takes for what.

import { choice, drawTile, el, field, figure, fill, nameLine, rove } from "./dom.js";
import { at, getPicture, untilDone } from "./api.js";

const SHOWN = 24;
const OF_A_CELL = 20;
const ALL = "all";

export async function show(place, { run, fail }) {
  let turn = 0;
  const body = el("div", {});
  const state = { checkpoint: run.checkpoints[0] };
  const controls =
    run.checkpoints.length > 1
      ? el("form", { class: "controls", onsubmit: (event) => event.preventDefault() },
          field("Checkpoint", choice(run.checkpoints.map((name) => [name, name]), state.checkpoint, (event) => {
            state.checkpoint = event.target.value;
            draw();
          })))
      : null;

  async function draw() {
    const now = ++turn;
    const step = el("p", { class: "quiet working", role: "status" }, "Looking …");
    fill(body, step);
    try {
      const values = { checkpoint: state.checkpoint };
      const found = await untilDone(at(run, "fails", values), (text) => (step.textContent = `Working: ${text} …`), () => now !== turn);
      if (!found) return;
      const tiles = tileMaker(run, values, fail);
      fill(
        body,
        el("p", {}, introduction(run, found)),
        found.classes ? worstClasses(found, tiles) : el("p", {}, `There are no classes to look at: ${found.no_classes}.`),
        uncovered(found, tiles),
        found.confusion?.generated ? confusion(found, tiles) : null,
      );
      body.dataset.drawn = "1";
    } catch (error) {
      if (now === turn) fill(body, el("p", {}, `This cannot be shown: ${error.message}.`));
    }
  }

  fill(place, el("h2", {}, "Where it fails"), controls, body);
  draw();
  return () => turn++;
}

function introduction(run, found) {
  const known = found.other_known ? `, of which the judge has learned from ${figure(found.other_known)}` : "";
  return (
    `${figure(found.count)} images of ${run.name} against ${figure(found.reference.count)} real ones (${found.reference.name}), ` +
    `in the features of ${found.features_of}. In brackets: what ${figure(found.other_count)} other real images get${known}.`
  );
}

/** A function that makes canvases of images `rows` of a set, which one request brings. */
function tileMaker(run, values, fail) {
  return function tiles(of, rows, labelOf) {
    const canvases = rows.map((row, k) => el("canvas", { class: "tile", role: "img", "aria-label": labelOf(row, k) }));
    if (rows.length)
      getPicture(at(run, "fails.png", { of, rows, ...values }))
        .then((picture) => canvases.forEach((canvas, k) => drawTile(canvas, picture, picture.height, rows.length, k)))
        .catch(fail);
    return canvases;
  };
}

const percent = (share) => (share === null ? "–" : `${figure(100 * share)} %`);
const number = (value) => (value === null ? "–" : value.toFixed(value < 10 ? 2 : 1));

// --- classes

function worstClasses(found, tiles) {
  const order = found.classes.map((_, k) => k).sort((a, b) => (found.classes[b].frechet ?? -1) - (found.classes[a].frechet ?? -1));
  const beside = (value, other) => [value, " ", el("span", { class: "quiet" }, `(${other})`)];
  const narrow = window.matchMedia("(max-width: 40rem)").matches; // there the images stand below the figures
  const rows = order.flatMap((k) => {
    const one = found.classes[k];
    const images = tiles("generated", one.least_sure.map((image) => image.row), (row, n) => {
      const image = one.least_sure[n];
      return `Generated image, seed ${row}: the judge sees ${found.names[image.seen]}, ${found.names[k]} by ${percent(image.chance)}`;
    });
    const figures = images.map((canvas, n) => {
      const seen = one.least_sure[n].seen;
      return el("figure", {}, canvas, el("figcaption", { class: seen === k ? null : "error" }, nameLine(found.names[seen])));
    });
    const cells = [
      el("th", { scope: "row" }, nameLine(found.names[k])),
      el("td", { class: "number" }, beside(number(one.frechet), number(one.other.frechet))),
      el("td", { class: "number" }, beside(percent(one.agreement), percent(one.other.agreement))),
      el("td", { class: "number" }, beside(percent(one.recall), percent(one.other.recall))),
    ];
    const shown = el("td", { colspan: narrow ? "4" : null }, el("div", { class: "tiles" }, figures));
    return narrow ? [el("tr", { class: "figures" }, cells), el("tr", {}, shown)] : [el("tr", {}, cells, shown)];
  });
  const images = "Least sure to be of the class, and what the judge sees";
  const head = ["Class", "Fréchet distance", "Label agreement", "Recall", ...(narrow ? [] : [images])];
  return el(
    "section",
    { class: "worst-classes" },
    el("h3", {}, "Worst classes"),
    el(
      "p",
      {},
      "The farthest from real images of its class stands first. Lower distances are better, and higher shares." +
        (narrow ? ` Images: ${images.toLowerCase()}.` : ""),
    ),
    el("div", { class: "table" }, el("table", {}, el("thead", {}, el("tr", {}, head.map((text) => el("th", { scope: "col" }, text)))), el("tbody", {}, rows))),
  );
}

// --- real images that nothing comes near

function uncovered(found, tiles) {
  const list = el("ol", { class: "pairs" });
  const name = (label) => (label === null ? "real image" : found.names[label]);

  function draw(label) {
    const chosen = found.uncovered.filter((one) => label === ALL || one.label === Number(label)).slice(0, SHOWN);
    const real = tiles("reference", chosen.map((one) => one.row), (row, k) => `Real image ${row}, ${name(chosen[k].label)}`);
    const made = tiles("generated", chosen.map((one) => one.nearest), (row) => `The nearest generated image, seed ${row}`);
    fill(
      list,
      chosen.map((one, k) =>
        el("li", {}, el("figure", {}, real[k], made[k], el("figcaption", {}, `${name(one.label)}, ${one.distance.toFixed(1)}`))),
      ),
    );
    if (!chosen.length) fill(list, el("li", {}, "None."));
    list.dataset.shown = String(chosen.length);
  }

  draw(ALL);
  const labels = found.uncovered[0]?.label ?? null;
  return el(
    "section",
    { class: "uncovered" },
    el("h3", {}, "Real images that no generated one comes near"),
    el(
      "p",
      {},
      `${percent(1 - found.recall)} of the real images lie outside of all that was generated (${percent(1 - found.other_recall)}): ` +
        "farther from each generated image than that is from its third neighbour (recall, k = 3). " +
        "The farthest, left, each with the nearest generated image and their distance:",
    ),
    labels === null
      ? null
      : el("form", { class: "controls", onsubmit: (event) => event.preventDefault() },
          field("Class", choice([[ALL, "all classes"], ...found.names.map((text, k) => [String(k), text])], ALL, (event) => draw(event.target.value)))),
    list,
  );
}

// --- the judge's verdicts

const SIDES = { generated: "generated images", other: "other real images" };

function confusion(found, tiles) {
  const state = { side: "generated" };
  const table = el("div", { class: "table" });
  const chosen = el("div", { class: "of-cell", "aria-live": "polite" });

  function draw() {
    const counts = found.confusion[state.side];
    const rows = counts.map((row, asked) => {
      const total = row.reduce((sum, count) => sum + count, 0);
      const cells = row.map((count, seen) => {
        const text = `${found.names[asked]} seen as ${found.names[seen]}: ${count} of ${total}`;
        const button = el(
          "button",
          { type: "button", tabindex: asked + seen ? "-1" : "0", "aria-label": text, title: text, onclick: () => showCell(asked, seen, text) },
          count ? String(count) : "",
        );
        button.style.setProperty("--share", total ? count / total : 0);
        return el("td", { class: asked === seen ? "right" : "wrong" }, button);
      });
      return el("tr", {}, el("th", { scope: "row" }, nameLine(found.names[asked])), cells);
    });
    const corner = el("td", {}, el("span", { class: "quiet" }, state.side === "generated" ? "asked for ↓ seen →" : "label ↓ seen →"));
    const names = found.names.map((name) => el("th", { scope: "col" }, nameLine(name)));
    fill(table, el("table", { class: "confusion" }, el("caption", {}, `What the judge sees in the ${SIDES[state.side]}`), el("thead", {}, el("tr", {}, corner, names)), el("tbody", {}, rows)));
    rove(table.firstChild, () => found.names.length);
    fill(chosen, el("p", { class: "quiet" }, "Choose a field to see its images."));
  }

  function showCell(asked, seen, text) {
    const [labels, predicted] = [found.labels[state.side], found.predicted[state.side]];
    const rows = labels.flatMap((label, k) => (label === asked && predicted[k] === seen ? [k] : [])).slice(0, OF_A_CELL);
    const kind = state.side === "generated" ? "Generated image, seed" : "Real image";
    fill(chosen, el("p", {}, `${text}.`), el("div", { class: "tiles" }, tiles(state.side, rows, (row) => `${kind} ${row}`)));
    chosen.dataset.shown = String(rows.length);
  }

  draw();
  const controls = el(
    "form",
    { class: "controls", onsubmit: (event) => event.preventDefault() },
    field("Images", choice(Object.entries(SIDES), "generated", (event) => {
      state.side = event.target.value;
      draw();
    })),
  );
  return el(
    "section",
    { class: "verdicts" },
    el("h3", {}, "What the judge sees"),
    el("p", {}, "Off the diagonal the judge sees another class than was asked for. It errs on real images, too: look at both."),
    controls,
    table,
    chosen,
  );
}
