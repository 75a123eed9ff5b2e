// The command that the studio has started, as it is now; used by the parts that start one.

import { commandLine, el, figure, fill } from "./dom.js";
import { at, post } from "./api.js";

/** Show the command in `place` and follow it; `onend` is called when it ends. Returns a function that stops following. */
export function follow(place, { fail, onend }) {
  const events = new EventSource("/api/command/events");
  let wasRunning = false;
  events.onmessage = (event) => {
    const command = JSON.parse(event.data);
    draw(place, command, fail);
    if (wasRunning && !command.running) onend?.(command);
    wasRunning = command.running;
  };
  window.addEventListener("pagehide", () => events.close(), { once: true });
  return () => events.close();
}

function stateOf(command) {
  if (command.stopping) return "stopping: it saves its state";
  if (command.running) return `under way for ${duration(command.seconds)}`;
  if (command.code === 0) return `done in ${duration(command.seconds)}`;
  return `ended with exit code ${command.code}`;
}

function duration(seconds) {
  return seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${String(seconds % 60).padStart(2, "0")} s`;
}

function draw(place, command, fail) {
  if (command.command === null) return fill(place);
  const training = command.kind === "train";
  const stop = el("button", { type: "button", disabled: command.stopping }, "Stop");
  stop.addEventListener("click", () => post("/api/command/stop").catch(fail));
  const grid = training && command.grids
    ? el("img", {
        class: "grid",
        src: at({ id: command.run }, "newest-grid.png", { shown: command.grids }),
        alt: `Generated images after ${figure(command.images)} images of training`,
      })
    : null;
  place.dataset.state = command.running ? "running" : command.code === 0 ? "done" : "failed";
  fill(
    place,
    el("h3", {}, training ? "Training" : "Command"),
    commandLine(command.command),
    el("p", {}, stateOf(command), training ? `, ${figure(command.images)} images shown` : null, " ", command.running ? stop : null),
    grid,
    training && !command.running && command.images
      ? el("p", {}, el("a", { href: `#wall/${command.run}` }, "Look at its wall"), " · ", el("a", { href: `#film/${command.run}` }, "its film"))
      : null,
    el("details", { open: command.code !== 0 && !command.running }, el("summary", {}, "What it prints"), el("pre", { tabindex: "0" }, command.output || "nothing yet")),
  );
}
