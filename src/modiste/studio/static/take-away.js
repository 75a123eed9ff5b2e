// What can be taken away from a run. Each product is made by a command, and then downloaded.

import { commandLine, el, fill } from "./dom.js";
import { at, getJson, post } from "./api.js";
import { follow } from "./command.js";

const PRODUCTS = {
  onnx: ["ONNX model", "The generator for other programs and browsers, with a model card."],
  report: ["Report", "One page with pictures, curves and scores, without anything from elsewhere."],
  samples: ["Samples", "Generated images as PNG files, the same number of each class, marked as synthetic and with a data card."],
};

export async function show(place, { run, fail }) {
  const list = el("div", { class: "products" });
  const underWay = el("section", { class: "under-way", "aria-live": "polite" });

  async function draw() {
    const offered = await getJson(at(run, "products"));
    fill(
      list,
      Object.entries(PRODUCTS).map(([name, [title, about]]) => {
        const { command, made } = offered[name];
        const link = name === "report"
          ? el("a", { href: at(run, "products/report"), target: "_blank", rel: "noopener" }, "Open the report")
          : el("a", { href: at(run, `products/${name}`), download: true }, "Download as zip");
        const make = el("button", { type: "button", onclick: () => post(at(run, "products"), { product: name }).catch(fail) }, made ? "Make again" : "Make");
        return el("article", { class: "product", "data-product": name }, el("h3", {}, title), el("p", {}, about), commandLine(command), el("p", {}, make, " ", made ? link : null));
      }),
    );
  }

  fill(place, el("h2", {}, "Take away"), list, underWay);
  await draw();
  return follow(underWay, { fail, onend: () => draw().catch(fail) });
}
