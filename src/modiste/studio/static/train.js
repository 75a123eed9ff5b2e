// Training: a form made from the recipe's keys. The command below it is what the button runs.

import { choice, commandLine, el, field, fill } from "./dom.js";
import { at, getJson, latest, post } from "./api.js";
import { follow } from "./command.js";

const TITLES = { data: "Data", network: "Networks", loss: "Losses", augment: "Augmentation", train: "Training", finetune: "Fine-tuning", evaluate: "Held-out scores" };

export async function show(place, { run, runs, fail, reload }) {
  const form = await getJson("/api/train/form");
  const names = new Set(runs.map((one) => one.name));
  const state = { recipe: "swift", own: {}, values: {}, changed: {} };

  const about = el("p", { class: "quiet" });
  const name = el("input", { required: true, maxlength: "100", autocomplete: "off" });
  const budget = el("input", { value: "2min", autocomplete: "off" });
  const seed = el("input", { value: "0", inputmode: "numeric", autocomplete: "off" });
  const data = choice([["", "as the recipe says"], ...form.data.map((one) => [one, one])], "", () => check(), "Data");
  const settings = el("div", { class: "settings" });
  const command = el("div", { "aria-live": "polite" });
  const begin = el("button", { class: "main", type: "submit" }, "Start training");
  const underWay = el("section", { class: "under-way", "aria-live": "polite" });

  function freeName(base) {
    let candidate = base;
    for (let number = 2; names.has(candidate); number += 1) candidate = `${base}-${number}`;
    return candidate;
  }

  async function take(recipe) {
    state.recipe = recipe;
    state.changed = {};
    const facts = await getJson(`/api/train/recipes/${encodeURIComponent(recipe)}`);
    state.values = facts.values;
    about.textContent = form.recipes.find((one) => one.name === recipe).about;
    name.value = freeName(recipe);
    fill(settings, Object.entries(form.sections).map(([section, keys]) => foldOf(section, keys)));
    await check();
  }

  function foldOf(section, keys) {
    return el(
      "details",
      {},
      el("summary", {}, TITLES[section] ?? section),
      el("div", { class: "keys" }, keys.map((key) => field(key.key.split(".")[1], controlOf(key), key.meaning))),
    );
  }

  function controlOf({ key, choices }) {
    const value = state.values[key];
    const change = (event) => {
      if (event.target.value === value) delete state.changed[key];
      else state.changed[key] = event.target.value;
      event.target.classList.toggle("changed", key in state.changed);
      check();
    };
    if (choices.length) return choice(choices.map((one) => [one, one]), value, change, key);
    return el("input", { value, "aria-label": key, autocomplete: "off", onchange: change });
  }

  function asked() {
    return { recipe: state.recipe, name: name.value, data: data.value, budget: budget.value, seed: seed.value, settings: state.changed };
  }

  const check = latest(async () => {
    const { command: line, problem } = await post("/api/train/check", asked());
    fill(command, problem ? el("p", { class: "error" }, problem) : commandLine(line));
    begin.disabled = problem !== undefined;
  }, fail);

  for (const input of [name, budget, seed]) input.addEventListener("input", () => check());

  async function start(event) {
    event.preventDefault();
    await post("/api/train/start", asked()).catch(fail);
    underWay.scrollIntoView({ block: "nearest" });
  }

  const line = el("div", {});
  const drawLine = () => fill(line, commandLine(`modiste train ${run.place} --extend --budget ${length.value}`));
  const length = el("input", { value: "5min", autocomplete: "off", "aria-label": "New length of the run", oninput: () => drawLine() });
  drawLine();
  const goOn = (values) => post(at(run, "go-on"), values).catch(fail);
  const canGoOn = run.id !== "pretrained";

  fill(
    place,
    el("h2", {}, "Train"),
    el(
      "form",
      { onsubmit: start },
      el(
        "div",
        { class: "controls" },
        field("Recipe", choice(form.recipes.map((one) => [one.name, one.name]), state.recipe, (event) => take(event.target.value).catch(fail), "Recipe")),
        field("Name of the run", name),
        field("Data", data),
        field("Length", budget, "90s, 5min, 3 epochs, 60000 images"),
        field("Seed", seed),
      ),
      about,
      settings,
      el("p", { class: "quiet" }, "The button runs this command:"),
      command,
      el("p", {}, begin),
    ),
    underWay,
    canGoOn
      ? el(
          "section",
          {},
          el("h3", {}, `Go on with ${run.name}`),
          el("p", {}, "A run that was stopped goes on where it was; a finished one can be extended to a greater length."),
          el("div", { class: "controls" },
            el("button", { type: "button", onclick: () => goOn({}) }, "Resume"),
            field("New length", length),
            el("button", { type: "button", onclick: () => goOn({ budget: length.value }) }, "Extend"),
          ),
          line,
        )
      : null,
  );
  await take(state.recipe);
  return follow(underWay, { fail, onend: () => reload().catch(fail) });
}
