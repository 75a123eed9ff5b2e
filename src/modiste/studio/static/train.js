// Training: a form made from the recipe's keys. The command below it is what the button runs.

import { choice, commandLine, el, field, fill, refusal } from "./dom.js";
import { at, getJson, latest, post } from "./api.js";
import { follow } from "./command.js";

const TITLES = { data: "Data", network: "Networks", loss: "Losses", augment: "Augmentation", train: "Training", finetune: "Fine-tuning", evaluate: "Held-out scores" };

export async function show(place, { run, runs, fail, reload }) {
  const form = await getJson("/api/train/form");
  const names = new Set(runs.map((one) => one.name));
  const state = { recipe: "swift", name: "", values: {}, changed: {} };

  const about = el("p", { class: "quiet" });
  const name = el("input", { required: true, maxlength: "100", autocomplete: "off" });
  const budget = el("input", { value: "2min", autocomplete: "off" });
  const seed = el("input", { value: "0", inputmode: "numeric", autocomplete: "off" });
  const data = choice([["", "as the recipe says"], ...form.data.map((one) => [one, one])], "", () => check(), "Data");
  const settings = el("div", { class: "settings" });
  const command = el("div", { "aria-live": "polite" });
  const refused = { name: refusal(name), data: refusal(data), budget: refusal(budget), seed: refusal(seed) };
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
    if (["", state.name].includes(name.value)) name.value = state.name = freeName(recipe); // unless somebody has typed another one
    fill(settings, Object.entries(form.sections).map(([section, keys]) => foldOf(section, keys)));
    await check();
  }

  function foldOf(section, keys) {
    return el(
      "details",
      {},
      el("summary", {}, TITLES[section] ?? section),
      el("div", { class: "keys" }, keys.map((key) => settingField(key))),
    );
  }

  function settingField(key) {
    const control = controlOf(key);
    return field(key.key.split(".")[1], control, el("span", {}, refused[key.key].element, el("small", {}, key.meaning)));
  }

  function controlOf({ key, choices }) {
    const value = state.values[key];
    const change = (event) => {
      if (event.target.value === value) delete state.changed[key];
      else state.changed[key] = event.target.value;
      event.target.classList.toggle("changed", key in state.changed);
      check();
    };
    const control = choices.length
      ? choice(choices.map((one) => [one, one]), value, change, key)
      : el("input", { value, "aria-label": key, autocomplete: "off", onchange: change });
    refused[key] = refusal(control);
    return control;
  }

  function asked() {
    return { recipe: state.recipe, name: name.value, data: data.value, budget: budget.value, seed: seed.value, settings: state.changed };
  }

  const check = latest(async () => {
    const { command: line, problem, field: wrong } = await post("/api/train/check", asked());
    for (const [key, one] of Object.entries(refused)) one.say(key === wrong ? problem : "");
    fill(command, problem ? el("p", { class: "error" }, problem) : commandLine(line));
    begin.disabled = problem !== undefined;
  }, fail);

  for (const input of [name, budget, seed]) input.addEventListener("input", () => check());

  async function start(event) {
    event.preventDefault();
    try {
      await post("/api/train/start", asked());
      underWay.scrollIntoView({ block: "nearest" });
    } catch (error) {
      fill(command, el("p", { class: "error" }, error.message));
    }
  }

  const line = el("div", {});
  const drawLine = () => fill(line, commandLine(`modiste train ${run.place} --extend --budget ${length.value}`));
  const length = el("input", { value: "5min", autocomplete: "off", "aria-label": "New length of the run", oninput: () => drawLine() });
  drawLine();
  const noLength = refusal(length);
  const goOn = (values) =>
    post(at(run, "go-on"), values).then(() => noLength.say(""), (error) => (values.budget ? noLength.say(error.message) : fail(error)));
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
        field("Name of the run", name, refused.name.element),
        field("Data", data, refused.data.element),
        field("Length", budget, el("span", {}, refused.budget.element, el("small", {}, "90s, 5min, 3 epochs, 60000 images"))),
        field("Seed", seed, refused.seed.element),
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
            field("New length", length, noLength.element),
            el("button", { type: "button", onclick: () => goOn({ budget: length.value }) }, "Extend"),
          ),
          line,
        )
      : null,
  );
  await take(state.recipe);
  return follow(underWay, { fail, onend: () => reload().catch(fail) });
}
