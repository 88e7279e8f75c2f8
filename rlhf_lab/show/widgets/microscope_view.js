// The token microscope: a response whose tokens are coloured by one quantity, and sliders.
//
// Python does the arithmetic. It sends `state`, with all numbers as text; the page sends the whole
// view that a person chose, {id, row, quantity, beta, lam, gamma, epsilon}, and Python returns the
// id in `heard`. Until that answer arrives, the page keeps its own controls as they are.

const PAUSE = 60; // ms without a change before the sliders' values are sent
const ANSWER_WITHIN = 10_000; // ms until the page says that Python does not answer

class MicroscopeView {
  constructor(model, root) {
    Object.assign(this, { model, root, at: 0, sent: null, serial: 0 });
    this.me = crypto.getRandomValues(new Uint32Array(1))[0].toString(36);
    root.classList.add("rlhf-widget", "rlhf-microscope");
    root.tabIndex = -1;
    keepShortcutsAway(root);
    root.addEventListener("keydown", (event) => event.stopPropagation());
    this.build(model.get("state"));
    this.update();
  }

  build({ rows, quantities, ranges }) {
    const send = () => this.plan();
    this.row = makeSelect("Response", rows.map(({ row, label }) => [row, label]), send);
    this.colour = makeSelect("Colour by", quantities.map(({ key, label }) => [key, label]), () => {
      this.paint();
      this.plan();
    });
    this.sliders = SLIDERS.map(([name, label, step]) =>
      makeSlider(name, label, step, ranges[name], send));
    this.reset = make("button", { onclick: () => this.backToRun() }, "Back to the run's settings");
    this.readout = makeReadout(quantities);
    this.prompt = make("div", { class: "prompt", dir: "auto" });
    this.tokens = make("div", { class: "tokens", role: "listbox", "aria-orientation": "horizontal",
      onkeydown: (event) => this.key(event) });
    [this.summary, this.moved, this.problem] = ["summary", "moved", "problem"].map((name) =>
      make("p", { class: name }));
    this.problem.setAttribute("role", "alert");
    this.status = make("p", { class: "status", role: "status", "aria-live": "polite" });
    [this.legend, this.losses, this.tableBox] = ["legend", "batch", "table-box"].map((name) =>
      make("div", { class: name }));
    this.tableBox.hidden = true;
    this.tableButton = make("button", { "aria-expanded": false, onclick: () => this.toggleTable() },
      "Show the table");
    this.root.replaceChildren(
      make("div", { class: "bar" }, this.row.node, this.colour.node), this.problem, this.prompt,
      this.tokens, this.legend, this.readout.node, this.moved, this.summary,
      make("fieldset", {}, make("legend", {}, "What if"),
        ...this.sliders.map(({ name, node }) => name === "beta"
          ? make("div", {}, node, make("p", { class: "note" }, BETA_NOTE)) : node),
        make("p", { class: "note" }, SLIDER_NOTE), this.reset),
      this.losses, this.tableButton, this.tableBox, this.status);
  }

  /** Take in what Python sent. */
  update() {
    const last = this.state;
    this.state = this.model.get("state");
    if (this.sent === this.state.heard || this.state.problem) this.settle();
    if (!this.sent) this.followPython();
    this.problem.hidden = !this.state.problem;
    this.problem.replaceChildren(this.state.problem);
    const { view, prompt, summary, moved, losses } = this.state;
    if (last?.view.row !== view.row) this.showResponse(prompt);
    this.summary.replaceChildren(summary);
    this.moved.replaceChildren(...pieces(moved));
    this.losses.replaceChildren(makeLosses(losses));
    this.paint();
    if (!this.tableBox.hidden) this.tableBox.replaceChildren(makeTable(this.state));
    if (last) this.status.replaceChildren(`${this.quantity.label}, ${summary}`);
  }

  /** Set the controls to what Python shows. */
  followPython() {
    const { view } = this.state;
    this.row.select.value = String(view.row);
    this.colour.select.value = view.quantity;
    for (const slider of this.sliders) slider.set(view[slider.name]);
  }

  get quantity() {
    return this.state.quantities.find(({ key }) => key === this.colour.select.value);
  }

  showResponse(prompt) {
    const focused = this.tokens.contains(this.root.getRootNode().activeElement);
    this.at = 0;
    this.prompt.replaceChildren(...pieces(prompt));
    const act = { choose: (at) => this.choose(at), hover: (at) => this.show(at ?? this.at) };
    this.nodes = this.state.tokens.map((token, at) => makeToken(token, at, act));
    this.tokens.replaceChildren(...this.nodes);
    this.choose(0);
    if (focused) this.nodes[0].focus({ preventScroll: true });
  }

  paint() {
    this.nodes.forEach((node, at) => paintToken(node, at, this.state, this.quantity));
    this.tokens.setAttribute("aria-label", `Tokens of the response by ${this.quantity.label}`);
    this.legend.replaceChildren(...makeLegend(this.quantity));
    const changed = this.sliders.some(({ name, value }) => value() !== this.state.saved[name]);
    this.reset.setAttribute("aria-disabled", !changed);
    this.show(this.hovered ?? this.at);
  }

  choose(at) {
    this.nodes[this.at]?.setAttribute("tabindex", -1);
    this.nodes[this.at]?.setAttribute("aria-selected", false);
    this.at = at;
    this.nodes[at].setAttribute("tabindex", 0);
    this.nodes[at].setAttribute("aria-selected", true);
    this.show(at);
  }

  show(at) {
    this.hovered = at === this.at ? null : at;
    this.readout.show(this.state, at, this.quantity);
  }

  // ---- what a person does --------------------------------------------------------------------

  key(event) {
    const to = { ArrowRight: this.at + 1, ArrowLeft: this.at - 1, Home: 0,
      End: this.nodes.length - 1, ArrowDown: this.onLine(1), ArrowUp: this.onLine(-1) }[event.key];
    if (to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.nodes[Math.min(Math.max(to, 0), this.nodes.length - 1)].focus();
  }

  /** The token nearest to the focused one on the next line, or on the one before. */
  onLine(step) {
    const here = this.nodes[this.at].getClientRects()[0];
    const places = this.nodes.map((node, at) => ({ at, box: node.getClientRects()[0] }))
      .filter(({ box }) => (box.top - here.top) * step > here.height / 2);
    if (!places.length) return this.at;
    const line = Math.min(...places.map(({ box }) => box.top * step)) * step;
    const far = ({ box }) => Math.abs(box.left - here.left);
    return places.filter(({ box }) => Math.abs(box.top - line) < here.height / 2)
      .reduce((best, place) => (far(place) < far(best) ? place : best)).at;
  }

  backToRun() {
    for (const slider of this.sliders) slider.set(this.state.saved[slider.name]);
    this.plan();
  }

  toggleTable() {
    const open = this.tableBox.hidden;
    this.tableBox.hidden = !open;
    this.tableBox.replaceChildren(...(open ? [makeTable(this.state)] : []));
    this.tableButton.setAttribute("aria-expanded", open);
    this.tableButton.replaceChildren(open ? "Hide the table" : "Show the table");
  }

  // ---- talking -------------------------------------------------------------------------------

  /** Send the chosen view once the sliders have not moved for a moment. */
  plan() {
    this.sent = `${this.me}-${++this.serial}`;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.send(), PAUSE);
  }

  send() {
    const view = { id: this.sent, row: Number(this.row.select.value),
      quantity: this.colour.select.value };
    for (const { name, value } of this.sliders) view[name] = value();
    clearTimeout(this.patience);
    this.patience = setTimeout(() => this.complain(), ANSWER_WITHIN);
    try {
      this.model.send(view);
    } catch { // the kernel that made this widget is gone
      this.complain();
    }
  }

  settle() {
    clearTimeout(this.patience);
    this.sent = null;
  }

  complain() {
    this.settle();
    this.problem.hidden = false;
    this.problem.replaceChildren("Python does not answer, so these numbers are still the old ones. "
      + "It may be busy with another cell. If the kernel was restarted, run this cell again.");
  }
}

export default {
  render({ model, el }) {
    const view = new MicroscopeView(model, el);
    const update = () => view.update();
    model.on("change:state", update);
    return () => model.off("change:state", update);
  },
};
