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

const WITHOUT_GENERATOR = ["film", "train"]; // parts that also show a run that has none yet

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

/** What the address names: the first part and run where it names none, and null for one that is not there. */
function position() {
  const [part, id] = location.hash.slice(1).split("/");
  const first = runs.find((run) => !run.problem) ?? runs[0];
  const named = PARTS.some(([name]) => name === part) ? part : null;
  return { part: part ? named : PARTS[0][0], run: id ? runs.find((run) => run.id === id) ?? null : first };
}

/** Why a part cannot show a run; "" where it can. */
function obstacle({ part, run }) {
  const [name, id] = location.hash.slice(1).split("/").map((text) => text.slice(0, 60));
  if (part === null) return `The studio has no part “${name}”; choose one above.`;
  if (run === null) return `No run of this folder has the id “${id}”, which the address names; choose one of the list above.`;
  if (run?.broken) return `This run is broken: ${run.problem}`;
  return run?.problem && !WITHOUT_GENERATOR.includes(part) ? `${run.problem}.` : "";
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
      const note = one.broken ? " (broken)" : one.problem ? " (no generator)" : "";
      return el("option", { value: one.id, selected: one === run }, `${one.name}${note}`);
    }),
  );
  if (!run) picker.selectedIndex = -1;
}

async function show() {
  const now = ++turn;
  end?.();
  end = null;
  say("");
  fill(place, el("p", { class: "quiet" }, "…"));
  try {
    if (obstacle(position())) await reload(); // which may be gone by now
    if (now !== turn) return;
    const { part, run } = position();
    drawFrame({ part, run });
    const problem = obstacle({ part, run });
    if (problem) {
      fill(place, run ? el("h2", {}, run.name) : null, el("p", { class: "error" }, problem));
      return;
    }
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

picker.addEventListener("change", () => go(position().part ?? PARTS[0][0], runs.find((run) => run.id === picker.value)));
window.addEventListener("hashchange", show);

try {
  await reload();
  await show();
} catch (error) {
  fail(error);
}
