// Two runs: their walls of the same classes and seeds under a divider, and their scores in one table.

import { MOST_SEED, choice, commandLine, el, field, fill, nameLine } from "./dom.js";
import { at, getJson, getPicture, latest, query } from "./api.js";
import { colourOf, tellApart } from "./colours.js";

let other = null; // the id of the second run, which stays when another first one is picked

/** The classes that two runs have in common, each with its number in both; null where one has none and the other has. */
function commonClasses(first, second) {
  if (!first.classes.length && !second.classes.length) return [];
  const found = first.classes.map((name, number) => [name, number, second.classes.indexOf(name)]);
  const common = found.filter(([, , number]) => number >= 0);
  return common.length ? common : null;
}

export function show(place, { run, runs, fail }) {
  const others = runs.filter((one) => !one.problem && one !== run);
  if (!others.length) {
    fill(place, el("h2", {}, "Compare"), el("p", {}, "There is one run only; train another one to compare them."));
    return;
  }
  const narrow = window.matchMedia("(max-width: 40rem)").matches;
  const columns = narrow ? 6 : 12;
  const state = { first: 0, truncation: null };
  const second = () => others.find((one) => one.id === other) ?? others[0];
  const canvases = [el("canvas", { role: "img" }), el("canvas", { role: "img", class: "over" })];
  const divider = el("div", { class: "divider", "aria-hidden": "true" });
  const picture = el("div", { class: "wipe" }, canvases, divider);
  const cut = el("input", { type: "range", min: "0", max: "100", step: "1", value: "50", "aria-label": "Divider" });
  const sides = el("p", { class: "sides" });
  const names = el("div", { class: "row-names", "aria-hidden": "true" });
  const frame = el("div", { class: "wall-frame" }, names, picture, el("div", { class: "cut" }, cut));
  const wall = el("div", {}, sides, frame);
  const none = el("p", { hidden: true });
  const scores = el("section", { class: "scores", "aria-live": "polite" });
  const seed = el("output", {});
  const earlier = el("button", { type: "button", disabled: true, onclick: () => move(-columns) }, "Earlier seeds");
  const amount = el("output", {}, "off");
  const truncation = el("input", { type: "range", min: "0.1", max: "2.1", step: "0.05", value: "2.1" });
  truncation.addEventListener("input", () => {
    state.truncation = Number(truncation.value) > 2 ? null : Number(truncation.value);
    amount.textContent = state.truncation === null ? "off" : state.truncation.toFixed(2);
    draw();
  });
  const controls = el(
    "form",
    { class: "controls", onsubmit: (event) => event.preventDefault() },
    field("Compare with", choice(others.map((one) => [one.id, one.name]), second().id, (event) => {
      other = event.target.value;
      layOut();
    })),
    field("Truncation", el("span", { class: "slider" }, truncation, amount)),
    earlier,
    el("button", { type: "button", onclick: () => move(columns) }, "More seeds"),
    seed,
  );

  function move(by) {
    state.first = Math.max(0, Math.min(MOST_SEED, state.first + by));
    earlier.disabled = !state.first;
    draw();
  }

  // --- the divider

  function divide() {
    picture.style.setProperty("--cut", `${cut.value}%`);
    cut.setAttribute("aria-valuetext", `${cut.value} % ${run.name}, ${100 - cut.value} % ${second().name}`);
  }

  function drag(event) {
    const box = picture.getBoundingClientRect();
    cut.value = String(Math.round((100 * (event.clientX - box.left)) / box.width));
    divide();
  }

  cut.addEventListener("input", divide);
  picture.addEventListener("pointerdown", (event) => {
    picture.setPointerCapture(event.pointerId);
    drag(event);
  });
  picture.addEventListener("pointermove", (event) => {
    if (picture.hasPointerCapture(event.pointerId)) drag(event);
  });

  // --- the walls

  function pictureName(pair, side) {
    return `Generated images of ${pair[side].name}, ${side ? "right" : "left"} of the divider`;
  }

  const draw = latest(async () => {
    const pair = [run, second()];
    const common = commonClasses(...pair);
    wall.hidden = common === null;
    none.hidden = common !== null;
    if (common === null) {
      none.textContent = `${pair[0].name} and ${pair[1].name} have no class in common, so there is no wall of the same classes.`;
      return;
    }
    const count = common.length ? columns : columns * 8;
    const seeds = Array.from({ length: count }, (_, k) => state.first + k);
    seed.textContent = `seeds ${seeds[0]} to ${seeds.at(-1)}`;
    const drawn = await Promise.all(pair.map((one, side) => getPicture(at(one, "wall.png", {
      seeds,
      labels: common.length ? common.map((found) => found[1 + side]) : null,
      columns: common.length ? null : columns,
      truncation: state.truncation,
    }))));
    drawn.forEach((bitmap, side) => {
      const canvas = canvases[side];
      canvas.width = bitmap.width;
      canvas.height = bitmap.height;
      canvas.getContext("2d").drawImage(bitmap, 0, 0);
      const rows = common.length ? `${common.map(([name]) => name).join(", ")} in rows, ` : "";
      canvas.setAttribute("aria-label", `${pictureName(pair, side)}: ${rows}${seed.textContent}`);
    });
    picture.dataset.drawn = String(Number(picture.dataset.drawn ?? 0) + 1);
  }, fail);

  function layOut() {
    const pair = [run, second()];
    tellApart(pair);
    const common = commonClasses(...pair) ?? [];
    fill(names, common.map(([name]) => nameLine(name)));
    canvases.forEach((canvas, side) => canvas.setAttribute("aria-label", pictureName(pair, side)));
    frame.classList.toggle("named", common.length > 0);
    fill(sides, pair.map((one) => el("span", {}, swatch(one), one.name)));
    divide();
    draw();
    tell();
  }

  function swatch(one) {
    return el("span", { class: `swatch ${colourOf(one)}`, "aria-hidden": "true" });
  }

  // --- the scores

  const tell = latest(async () => {
    const pair = [run, second()];
    const found = await getJson(`/api/compare?${query({ first: pair[0].id, second: pair[1].id })}`);
    if (pair[1] !== second()) return;
    fill(
      scores,
      el("h3", {}, "Scores"),
      found.refused ? el("p", { class: "error" }, `${found.refused}.`) : null,
      found.missing.map((one) => el("p", { class: "error" }, `${one.run} has no scores: ${one.reason}.`)),
      found.refused || found.missing.length ? [el("p", {}, "The command that measures both alike:"), commandLine(found.command)] : null,
      found.rows ? scoreTable(pair, found.rows.filter((row) => row.headline)) : null,
      found.rows ? el("p", {}, el("small", {}, "Each line runs from the trivial baseline (left) to real images (right).")) : null,
      found.sentences.map((sentence) => el("p", {}, sentence)),
      found.rows ? fold("All scores", scoreTable(pair, found.rows)) : null,
      found.gaps?.length ? fold("What was not measured", el("ul", {}, found.gaps.map((gap) => el("li", {}, gap)))) : null,
      found.protocol ? fold("How it was measured", found.protocol.map((sentence) => el("p", {}, sentence))) : null,
      el("h3", {}, "Recipes"),
      recipes(pair, found.recipes),
    );
  }, fail);

  function fold(title, ...content) {
    return el("details", {}, el("summary", {}, title), content);
  }

  function scoreTable(pair, rows) {
    const heads = ["score", ...pair.map((one) => [swatch(one), one.name]), "real images", "trivial"];
    return el("div", { class: "table" }, el("table", {},
      el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head)))),
      el("tbody", {}, rows.map((row) => el("tr", {},
        el("th", { scope: "row", title: row.score }, row.title, el("small", {}, row.direction), ruler(pair, row)),
        row.values.map((value, k) => el("td", { class: "number" }, value, row.errors[k] ? el("small", {}, `± ${row.errors[k]}`) : null)),
        el("td", { class: "number" }, row.real),
        el("td", { class: "number" }, row.trivial))))));
  }

  /** A line from the trivial baseline to real images with a dot per run; empty where the baselines make no line. */
  function ruler(pair, row) {
    const known = pair.map((one, k) => [one, row.places[k]]).filter(([, share]) => share !== null);
    if (!known.length) return null;
    const told = known.map(([one, share]) => `${one.name} ${Math.round(100 * share)} %`).join(", ");
    return el("div", { class: "ruler", role: "img", "aria-label": `${told} of the way to real images` }, known.map(([one, share]) => {
      const dot = el("span", { class: colourOf(one) });
      dot.style.left = `${100 * share}%`;
      return dot;
    }));
  }

  function recipes(pair, rows) {
    if (!rows.length) return el("p", {}, "Both runs have the same recipe and the same seed.");
    if (rows.length === 1 && rows[0][0] === "seed") return el("p", {}, `Both runs have the same recipe; only the training seed differs (${rows[0][1]} and ${rows[0][2]}).`);
    return el("div", { class: "table" }, el("table", {},
      el("thead", {}, el("tr", {}, ["setting", ...pair.map((one) => one.name)].map((head) => el("th", { scope: "col" }, head)))),
      el("tbody", {}, rows.map(([key, ...values]) => el("tr", {}, el("th", { scope: "row" }, el("code", {}, key)), values.map((value) => el("td", {}, value)))))));
  }

  fill(
    place,
    el("h2", {}, "Compare"),
    el("p", { class: "quiet" }, `${run.name} on the left, another run on the right: the same classes and seeds.`),
    controls,
    el("div", { class: "compare-beside" }, el("div", {}, wall, none), scores),
  );
  layOut();
}
