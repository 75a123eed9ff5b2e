// Elements from tags, properties and children. Text is always text: nothing here reads markup.

/** An element; `on…` properties are listeners, the others attributes; null children are left out. */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Replace what an element holds. */
export function fill(element, ...children) {
  element.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** A labelled control; below it a hint, which is a text or an element. */
export function field(text, control, hint) {
  const below = typeof hint === "string" ? el("small", {}, hint) : hint;
  return el("label", { class: "field" }, el("span", {}, text), control, below);
}

/** A name in one line, which is cut where it is too long; the whole name is its title. */
export function nameLine(name) {
  return el("span", { class: "one-line", title: name }, name);
}

/** The place of a sentence about what was typed into a control: `say` shows it there, or with "" takes it away. */
export function refusal(control) {
  const element = el("small", { class: "error", role: "alert" });
  const say = (sentence) => {
    element.textContent = sentence;
    control.setAttribute("aria-invalid", String(sentence !== ""));
  };
  return { element, say };
}

export const MOST_SEED = 4294967000;

/** A field for a seed; `onvalue` gets each new one, and what is no seed is refused beside the field. */
export function seedField(text, value, onvalue) {
  const input = el("input", { type: "number", min: "0", max: MOST_SEED, step: "1", value, inputmode: "numeric" });
  const refused = refusal(input);
  input.addEventListener("change", () => {
    const seed = input.value === "" ? NaN : Number(input.value);
    const fits = Number.isInteger(seed) && seed >= 0 && seed <= MOST_SEED;
    refused.say(fits ? "" : `${input.value.slice(0, 60) || "This"} is no seed; write a whole number from 0 to ${MOST_SEED}.`);
    if (fits) onvalue(seed);
  });
  const set = (seed) => {
    input.value = String(seed);
    refused.say("");
  };
  return { field: field(text, input, refused.element), set };
}

/** A slider with its value in words, which `word` makes of the number; `onvalue` gets each new number. */
export function slider(text, range, word, onvalue, hint) {
  const input = el("input", { type: "range", ...range });
  const output = el("output", {}, word(Number(input.value)));
  const show = () => (output.textContent = word(Number(input.value)));
  input.addEventListener("input", () => {
    show();
    onvalue(Number(input.value));
  });
  const set = (value) => {
    input.value = String(value);
    show();
  };
  return { field: field(text, el("span", { class: "slider" }, input, output), hint), input, set };
}

const NO_TRUNCATION = 2.05;

/** The slider of truncation; `onvalue` gets a number, or null where it is off. */
export function truncationField(onvalue) {
  const off = (value) => value > NO_TRUNCATION - 0.01;
  const word = (value) => (off(value) ? "off" : value.toFixed(2));
  const range = { min: "0.1", max: NO_TRUNCATION, step: "0.05", value: NO_TRUNCATION };
  const hint = "lower: more typical, less varied";
  return slider("Truncation", range, word, (value) => onvalue(off(value) ? null : value), hint).field;
}

/** Draw one image of a picture in which images of that side stand in rows, onto a canvas. */
export function drawTile(canvas, picture, side, columns, k) {
  canvas.width = side;
  canvas.height = side;
  canvas.getContext("2d").drawImage(picture, (k % columns) * side, Math.floor(k / columns) * side, side, side, 0, 0, side, side);
}

/** Let arrow keys, Home and End move the focus among the buttons in an element, which stand in rows. */
export function rove(element, columns) {
  element.addEventListener("keydown", (event) => {
    const wide = columns();
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -wide, ArrowDown: wide };
    const all = [...element.querySelectorAll("button")];
    const from = all.indexOf(document.activeElement);
    const to = event.key in steps ? from + steps[event.key] : event.key === "Home" ? 0 : event.key === "End" ? all.length - 1 : -1;
    if (from < 0 || !all[to]) return;
    event.preventDefault();
    all[from].tabIndex = -1;
    all[to].tabIndex = 0;
    all[to].focus();
  });
}

/** A choice among [value, text] pairs. */
export function choice(pairs, selected, onchange, label) {
  const options = pairs.map(([value, text]) => el("option", { value, selected: value === selected }, text));
  return el("select", { onchange, "aria-label": label }, options);
}

/** A command of the command line, with a button that copies it. */
export function commandLine(text) {
  const button = el("button", { type: "button", class: "quiet" }, "Copy");
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text).catch(() => {});
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  return el("div", { class: "command" }, el("code", { tabindex: "0" }, text), button);
}

/** A number for people: 1234.5 as 1,234.5, with that many digits after the point at most. */
export function figure(value, digits = 0) {
  return value.toLocaleString("en-GB", { maximumFractionDigits: digits });
}
