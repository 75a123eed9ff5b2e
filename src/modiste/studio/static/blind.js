// The blind test: made here, taken in a tab of its own. Results of all who took one stand below.

import { choice, commandLine, el, field, fill, figure } from "./dom.js";
import { at, getJson, post } from "./api.js";

export async function show(place, { run, runs, say, fail }) {
  const others = runs.filter((one) => one !== run && !one.problem).map((one) => [one.id, one.name]);
  const against = choice([["real", "real images"], ...others], "real", () => {});
  const count = el("input", { type: "number", min: "1", max: "500", value: "100", required: true });
  const seed = el("input", { type: "number", min: "0", value: "0", required: true });
  const perClass = el("input", { type: "checkbox" });
  const made = el("div", { class: "made", "aria-live": "polite" });
  const results = el("div", { class: "results" });
  const button = el("button", { class: "main", type: "submit" }, "Make the test");

  async function make(event) {
    event.preventDefault();
    button.disabled = true;
    say("making the test: opening the real images and generating the others");
    try {
      const asked = { against: against.value, trials: Number(count.value), seed: Number(seed.value), per_class: perClass.checked };
      const test = await post(at(run, "blind"), asked);
      say("");
      fill(
        made,
        el("p", {}, el("a", { class: "button", href: test.address, target: "_blank", rel: "noopener" }, "Take the test"), " in a tab of its own; come back here for the result."),
        test.notes.map((note) => el("p", { class: "quiet" }, note)),
        el("p", { class: "quiet" }, "The same as one page to send to others:"),
        commandLine(test.command),
      );
    } catch (error) {
      fail(error);
    } finally {
      button.disabled = false;
    }
  }

  async function drawResults() {
    const found = await getJson("/api/blind");
    fill(
      results,
      found.length ? el("h3", {}, "Results") : null,
      found.map((one) =>
        el("article", { class: "result" },
          el("h4", {}, `${one.about}: ${figure(one.people)} ${one.people === 1 ? "person" : "people"}`),
          one.sentences.map((sentence) => el("p", {}, sentence)),
          commandLine(one.command))),
    );
  }

  fill(
    place,
    el("h2", {}, "Blind test"),
    el("p", {}, "Two pictures of one class stand beside each other, and you choose: which one is generated? Or, against another run, which looks better? A hundred pairs take about five minutes."),
    el("form", { class: "controls", onsubmit: make },
      field(`${run.name} against`, against),
      field("Trials", count),
      field("Seed", seed),
      run.classes.length > 1 ? field("As many of every class", perClass) : null,
      button),
    made,
    results,
  );
  const refresh = () => document.visibilityState === "visible" && drawResults().catch(fail);
  document.addEventListener("visibilitychange", refresh);
  await drawResults();
  return () => document.removeEventListener("visibilitychange", refresh);
}
