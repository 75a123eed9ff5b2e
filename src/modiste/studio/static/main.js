// The page: which run and which part it shows, kept in the address as #part/run.

import { el, fill } from "./dom.js";
import { getJson } from "./api.js";

// A part is a module with `show(place, studio)`, which may return a function that ends it.
const PARTS = [
  ["wall", "Wall"],
  ["paths", "Paths"],
  ["film", "Film"],
  ["compare", "Compare"],
  ["fails", "Where it fails"],
  ["blind", "Blind test"],
  ["train", "Train"],
  ["take-away", "Take away"],
];

const place = document.getElementById("part");
const tabs = document.getElementById("tabs");
const picker = document.getElementById("run");
const status = document.getElementById("status");

let runs = [];
let end = null;
let turn = 0;

function say(text, isError = false) {
  status.textContent = text;
  status.classList.toggle("error", isError);
}

function fail(error) {
  if (error.name !== "AbortError") say(error.message, true);
}

function position() {
  const [part, id] = location.hash.slice(1).split("/");
  const known = PARTS.some(([name]) => name === part) ? part : PARTS[0][0];
  return { part: known, run: runs.find((run) => run.id === id) ?? runs.find((run) => !run.problem) ?? runs[0] };
}

function go(part, run) {
  location.hash = `${part}/${run ? run.id : ""}`;
}

function drawFrame({ part, run }) {
  fill(
    tabs,
    PARTS.map(([name, title]) =>
      el("a", { href: `#${name}/${run ? run.id : ""}`, "aria-current": name === part ? "page" : null }, title),
    ),
  );
  tabs.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
  fill(
    picker,
    runs.map((one) => {
      const text = one.problem ? `${one.name} (broken)` : one.name;
      return el("option", { value: one.id, selected: one === run }, text);
    }),
  );
}

async function show() {
  const now = ++turn;
  const { part, run } = position();
  end?.();
  end = null;
  say("");
  drawFrame({ part, run });
  fill(place, el("p", { class: "quiet" }, "…"));
  if (run?.problem) {
    fill(place, el("h2", {}, run.name), el("p", { class: "error" }, `This run is broken: ${run.problem}`));
    return;
  }
  try {
    const module = await import(`./${part}.js`);
    if (now !== turn) return;
    const inner = el("div", { class: `part ${part}` });
    fill(place, inner);
    const finished = await module.show(inner, { run, runs, say, fail, go, reload });
    if (now === turn) end = finished ?? null;
    else finished?.();
  } catch (error) {
    if (now === turn) fill(place, el("p", { class: "error" }, error.message));
  }
}

/** Read the list of runs again, for a part that has made one. */
async function reload() {
  runs = await getJson("/api/runs");
  drawFrame(position());
  return runs;
}

picker.addEventListener("change", () => go(position().part, runs.find((run) => run.id === picker.value)));
window.addEventListener("hashchange", show);

try {
  await reload();
  await show();
} catch (error) {
  fail(error);
}
