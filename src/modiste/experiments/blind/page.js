"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const test = JSON.parse(byId("test").textContent);
  const storageKey = `modiste-blind-${test.id}`;
  const keys = { f: "left", arrowleft: "left", j: "right", arrowright: "right" };
  const choices = { left: byId("left"), right: byId("right") };
  const flashMs = 110;
  let session = load() || fresh();
  let shownAt = null; // when the pictures appeared; null while no answer is taken

  function fresh() {
    const id = Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("");
    return { format: "modiste blind answers 1", test: test.id, person: { id, name: "" }, started: null, finished: null, answers: [] };
  }

  function load() {
    try {
      const kept = JSON.parse(localStorage.getItem(storageKey));
      const fits = kept.test === test.id && kept.answers.length <= test.trials.length && kept.answers.every((one, k) => one.trial === k);
      return fits ? kept : null;
    } catch {
      return null;
    }
  }

  function keep() {
    try {
      localStorage.setItem(storageKey, JSON.stringify(session));
    } catch {
      byId("kept").textContent = "This browser keeps nothing: do not close this tab before the end.";
    }
  }

  function show(name) {
    for (const id of ["intro", "trial", "end"]) byId(id).hidden = id !== name;
    window.scrollTo(0, 0);
  }

  // The largest whole multiple of the pictures' own pixels for which both fit on the screen.
  function fit() {
    const across = Math.min(document.documentElement.clientWidth, 864) - 24;
    const gap = Math.min(36, Math.round(across / 30));
    const wide = (across - gap) / 2;
    const room = Math.min(384, wide, Math.max(window.innerHeight - 300, 140));
    const factor = Math.max(1, Math.floor(room / test.side));
    const style = document.documentElement.style;
    style.setProperty("--gap", `${gap}px`);
    style.setProperty("--size", `${Math.min(test.side * factor, Math.floor(wide))}px`);
  }

  async function next() {
    const position = session.answers.length;
    if (position === test.trials.length) return finish();
    const trial = test.trials[position];
    show("trial");
    choices.left.parentElement.classList.add("waiting");
    byId("bar").style.width = `${(100 * position) / test.trials.length}%`;
    byId("progress").setAttribute("aria-valuenow", position);
    byId("count").textContent = `${position + 1} of ${test.trials.length}`;
    byId("class").textContent = trial.class;
    await Promise.all(Object.entries(choices).map(([side, button]) => {
      const picture = button.querySelector("img");
      picture.src = `data:image/png;base64,${trial[side]}`;
      return picture.decode();
    }));
    for (const button of Object.values(choices)) button.classList.remove("chosen");
    choices.left.parentElement.classList.remove("waiting");
    requestAnimationFrame(() => requestAnimationFrame(() => {
      shownAt = performance.now();
      document.body.dataset.ready = position; // for programs that drive this page
    }));
  }

  function choose(side) {
    if (shownAt === null) return;
    const ms = Math.round(performance.now() - shownAt);
    shownAt = null;
    session.answers.push({ trial: session.answers.length, choice: side, ms });
    keep();
    choices[side].classList.add("chosen");
    setTimeout(next, flashMs);
  }

  function finish() {
    session.finished = session.finished || new Date().toISOString();
    keep();
    byId("text").value = JSON.stringify(session, null, 1);
    document.body.dataset.ready = "end";
    show("end");
    byId("save").focus();
  }

  function download() {
    const slug = session.person.name.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "") || "anonymous";
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(session, null, 1)], { type: "application/json" }));
    link.download = `answers-${test.id.slice(0, 6)}-${slug}-${session.person.id.slice(0, 4)}.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    announce([`Saved as ${link.download}.`]);
  }

  async function send() {
    try {
      const reply = await fetch(test.save_to, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(session) });
      if (!reply.ok) throw new Error(`${reply.status}`);
      announce((await reply.json()).sentences);
    } catch (error) {
      announce([`They could not be sent (${error.message}); they are kept here: try again, or copy the text below.`]);
    }
  }

  function announce(sentences) {
    byId("result").replaceChildren(...sentences.map((sentence) => {
      const paragraph = document.createElement("p");
      paragraph.textContent = sentence;
      return paragraph;
    }));
  }

  function greet() {
    const done = session.answers.length;
    byId("name").value = session.person.name;
    byId("start").textContent = done ? "Go on" : "Start";
    byId("anew").hidden = !done;
    byId("kept").textContent = done ? `${done} of ${test.trials.length} answers are kept in this browser.` : "";
    show("intro");
  }

  byId("who").addEventListener("submit", (event) => {
    event.preventDefault();
    session.person.name = byId("name").value.trim();
    session.started = session.started || new Date().toISOString();
    keep();
    byId("start").blur();
    next();
  });
  byId("anew").addEventListener("click", () => {
    session = fresh();
    keep();
    greet();
    byId("name").focus();
  });
  byId("save").addEventListener("click", () => (test.save_to ? send() : download()));
  for (const [side, button] of Object.entries(choices)) button.addEventListener("click", () => choose(side));
  document.addEventListener("keydown", (event) => {
    const side = keys[event.key.toLowerCase()];
    if (byId("trial").hidden || !side || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    choose(side);
  });
  window.addEventListener("resize", fit);
  fit();
  greet();
})();
