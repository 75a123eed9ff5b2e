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

/** A labelled control. */
export function field(text, control, hint) {
  return el("label", { class: "field" }, el("span", {}, text), control, hint ? el("small", {}, hint) : null);
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
