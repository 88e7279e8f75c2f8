// The pieces of the microscope's page.

const SLIDERS = [
  ["beta", "β, price of a nat of KL", 0.01],
  ["lam", "λ, how far a surprise is spread back", 0.01],
  ["gamma", "γ, discount per token", 0.005],
  ["epsilon", "ε, clip range", 0.01],
];
const BETA_NOTE = "Training with another β would have led to other responses: this shows only what "
  + "that β would charge for the present ones.";
const SLIDER_NOTE = "Tokens, log-probs, values and the update stay those of the run; rewards, "
  + "advantages, returns and losses are recomputed.";

/** A drop-down list: options are [value, label]. */
function makeSelect(label, options, onchange) {
  const select = make("select", { tabindex: 0, onchange },
    ...options.map(([value, text]) => make("option", { value }, text)));
  return { select, node: make("label", {}, `${label} `, select) };
}

/** A slider with its name and its value. */
function makeSlider(name, label, step, [min, max], oninput) {
  const output = make("output", {});
  const input = make("input", { type: "range", tabindex: 0, min, max, step, "aria-label": label,
    "data-name": name, oninput: () => { set(Number(input.value)); oninput(); } });
  const set = (value) => {
    if (Number(input.value) !== value) input.value = value;
    output.replaceChildren(String(Number(value.toFixed(4))));
  };
  const node = make("label", { class: "slider" }, make("span", {}, label), input, output);
  return { name, node, input, set, value: () => Number(input.value) };
}

/** A token that can be focused, clicked and pointed at. */
function makeToken({ text }, at, act) {
  return make("span", { class: "token", role: "option", tabindex: -1, dir: "auto",
    onfocus: () => act.choose(at), onclick: (event) => event.currentTarget.focus(),
    onpointerenter: (event) => event.pointerType === "mouse" && act.hover(at),
    onpointerleave: () => act.hover(null) }, ...pieces(text));
}

/** Colour a token by a quantity, and add its value as a sign and as a label for screen readers. */
function paintToken(node, at, state, quantity) {
  const level = state.levels[quantity.key][at];
  const clipped = state.clipped[at] && ["ratio", "pull"].includes(quantity.key);
  const end = quantity.centre === null ? "surprise" : level > 0 ? "up" : "down";
  node.style.setProperty("--paint", `var(--${end})`);
  node.style.setProperty("--strength", `${Math.abs(level) * 100}%`);
  node.dataset.sign = state.signs[quantity.key][at];
  node.classList.toggle("clipped", clipped);
  node.setAttribute("aria-label", `${at + 1} of ${state.tokens.length}, ${state.tokens[at].name}: `
    + `${quantity.label} ${state.cells[quantity.key][at]}${clipped ? ", clipped" : ""}`);
}

/** The scale of colours with its numbers, and what the quantity means. */
function makeLegend({ key, label, symbol, meaning, centre, ends }) {
  const bar = make("span", { class: centre === null ? "bar-one" : "bar-two", "aria-hidden": true });
  const words = ends.map((end) => make("span", {}, end));
  const scale = make("span", { class: "scale", role: "img",
    "aria-label": `Colours: ${ends.join(", ")}` },
  bar, make("span", { class: "ends", "aria-hidden": true }, ...words));
  const signs = centre === null ? "" : "▲ above, ▼ below the middle. ";
  const clip = ["ratio", "pull"].includes(key) ? "Dashed: the clip removes its gradient. " : "";
  return [scale, make("p", { class: "meaning" }, make("b", {}, label), " ",
    make("code", {}, symbol), ` ${meaning} `, make("small", {}, signs + clip))];
}

/** All numbers of one token. */
function makeReadout(quantities) {
  const head = make("p", { class: "which" });
  const cells = quantities.map(({ key, label }) => ({ key, label, value: make("dd", {}) }));
  const boxes = cells.map(({ label, value }) => make("div", {}, make("dt", {}, label), value));
  const clip = make("dd", {});
  const list = make("dl", {}, ...boxes, make("div", {}, make("dt", {}, "clipped"), clip));
  const show = (state, at, quantity) => {
    const { name } = state.tokens[at];
    head.replaceChildren("Token ", String(at + 1), ` of ${state.tokens.length}: `,
      make("bdi", { class: "name" }, ...pieces(name)));
    cells.forEach(({ key, value }, number) => {
      value.replaceChildren(state.cells[key][at]);
      boxes[number].classList.toggle("current", key === quantity.key);
    });
    clip.replaceChildren(state.clipped[at] ? "yes" : "no");
  };
  return { node: make("div", { class: "readout" }, head, list), show };
}

/** The same numbers as a table. */
function makeTable(state) {
  const cell = (tag, text, more = {}) => make(tag, more, text);
  const heads = ["#", "token", ...state.quantities.map(({ label }) => label), "clipped"];
  const lines = state.tokens.map(({ name }, at) => make("tr", {}, cell("td", String(at + 1)),
    make("th", { scope: "row" }, make("bdi", {}, ...pieces(name))),
    ...state.quantities.map(({ key }) => cell("td", state.cells[key][at])),
    cell("td", state.clipped[at] ? "yes" : "no")));
  return make("table", {}, make("caption", {}, "Every token of this response"),
    make("thead", {}, make("tr", {}, ...heads.map((text) => cell("th", text, { scope: "col" })))),
    make("tbody", {}, ...lines));
}

/** What the formulas give for the whole batch, now and in the run. */
function makeLosses(losses) {
  const row = ({ label, now, saved }) => make("tr", { class: now === saved ? "" : "changed" },
    make("th", { scope: "row" }, label), make("td", {}, now), make("td", {}, saved));
  return make("table", { class: "losses" },
    make("caption", {}, "The whole batch, with the policy and values after the update"),
    make("thead", {}, make("tr", {}, make("td", {}), make("th", { scope: "col" }, "now"),
      make("th", { scope: "col" }, "in the run"))),
    make("tbody", {}, ...losses.map(row)));
}
