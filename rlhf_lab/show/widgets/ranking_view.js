// The ranking widget: one prompt, its responses as cards, and the order a person gives them.
//
// Python holds the session and the store. It sends `state`; the page answers with messages
// {action, serial, ...}, where `serial` says which item they are about. A new serial is a new item.

const BUSY_AFTER = 500; // ms until the page says that Python is busy with another cell
const ANSWER_WITHIN = 10_000; // ms until a person may try again

class RankingView {
  constructor(model, root) {
    Object.assign(this, { model, root, order: [], cards: [], held: null, drag: null });
    root.classList.add("rlhf-widget", "rlhf-ranking");
    root.tabIndex = -1; // after a click between the cards, keys must still reach this view
    keepShortcutsAway(root);
    listenToKeys(this);
    this.build();
    this.update();
  }

  // ---- the page ----------------------------------------------------------------------------

  build() {
    const button = (label, key, act) =>
      make("button", { onclick: (event) => isOff(event.currentTarget) || act(),
        "aria-keyshortcuts": key }, label);
    this.who = make("bdi", { class: "who" });
    this.progress = make("progress", { "aria-label": "Progress" });
    this.count = make("span", { class: "count" });
    this.pause = button("Pause", "P", () => this.togglePause());
    this.help = button("Guidelines", "?", () => this.toggle(this.help, this.guidelines));
    this.guidelines = make("section", { class: "guidelines", hidden: "" });
    this.problem = make("p", { class: "problem", role: "alert", hidden: "" });
    this.item = make("div", { class: "item" });
    this.submit = button("Submit", "Enter", () => this.sendOrder());
    this.submit.classList.add("submit");
    this.why = make("span", { class: "why" });
    this.undo = button("Undo last answer", "U", () => this.send("undo"));
    this.skip = button("Skip", "S", () => this.send("skip"));
    this.flag = button("⚑ Flag …", "F", () => this.toggleReasons());
    this.reasons = make("span", { class: "reasons", hidden: "" }, "Why?",
      button("Unsafe: harmful to show or to follow", "", () => this.sendFlag("unsafe")),
      button("Nonsense: cannot be judged", "", () => this.sendFlag("nonsense")));
    this.status = make("p", { class: "status", role: "status", "aria-live": "polite" });
    this.root.replaceChildren(
      make("div", { class: "bar" }, make("span", {}, "Labeller ", this.who),
        make("span", { class: "how-far" }, this.progress, this.count), this.pause, this.help),
      this.guidelines, this.problem, this.item,
      make("div", { class: "foot" }, this.submit, this.why),
      make("div", { class: "foot" }, this.undo, this.skip, this.flag, this.reasons),
      this.status);
  }

  /** Take in what Python sent. */
  update() {
    const last = this.state;
    this.state = this.model.get("state");
    this.endWaiting();
    const { done, goal, labeller, paused, guidelines, problem, said } = this.state;
    this.who.replaceChildren(labeller || "…");
    this.root.classList.toggle("asking", this.state.asks);
    Object.assign(this.progress, { max: Math.max(goal, 1), value: done });
    this.count.replaceChildren(`${done} of ${goal}`);
    this.pause.replaceChildren(paused ? "Resume" : "Pause");
    this.guidelines.replaceChildren(...makeGuidelines(guidelines));
    this.complain(problem);
    if (last?.serial !== this.state.serial || last.paused !== paused) this.showItem(last);
    this.refresh();
    if (last && said) this.say(said);
  }

  showItem(last) {
    const { item, paused, serial } = this.state;
    const focused = this.root.contains(this.focused());
    this.drag?.cancel();
    this.toggle(this.flag, this.reasons, false);
    if (last?.serial !== serial) {
      this.order = item ? item.order : [];
      this.cards = item ? item.texts.map((text, place) => this.newCard(text, place)) : [];
    }
    this.held = null;
    this.zones = makeZones();
    this.item.replaceChildren(...(this.state.asks ? makeNameForm((name) => this.sendName(name))
      : paused ? makePaused() : item ? makeItem(item, this.zones) : makeEnd(this.state)));
    if (item && !paused) this.arrange();
    if (!focused) return;
    bringIntoView(this.item);
    if (this.state.asks) return;
    (paused || !item ? this.pause : this.cards[0].node).focus({ preventScroll: true });
  }

  newCard(text, place) {
    const change = (step) => () => this.change(place, step(this.order, place));
    return makeCard(place, text, {
      takeFreeRank: change(takeFreeRank),
      raise: change(raise),
      lower: change(lower),
      unrank: change(without),
      tie: () => this.tie(place),
      grab: (event) => this.grab(event, place),
    });
  }

  /** Put every card where the order says; the focused one keeps its focus, and cards slide. */
  arrange() {
    const focused = this.focused();
    const before = this.cards.map(({ node }) => (node.isConnected ? topOf(node) : null));
    const rows = this.order.map((group, at) => group.length
      ? make("li", { class: group.length > 1 ? "group tied" : "group", "data-places": group },
        ...group.map((place) => this.cards[place].node))
      : makeFree(rankAt(this.order, at), "free"));
    const left = this.unranked();
    if (left.length && lastRank(this.order) <= this.cards.length) {
      rows.push(makeFree(lastRank(this.order), "next"));
    }
    this.zones.ranked.replaceChildren(...rows);
    this.zones.unranked.replaceChildren(...(left.length ? left.map(({ node }) => node)
      : [make("p", { class: "free" }, "none; drag here what you would rather not rank")]));
    this.cards.forEach((card) => labelCard(card, this.order, this.cards.length));
    if (this.root.contains(focused)) focused.focus({ preventScroll: true });
    this.cards.forEach(({ node, place }) => slide(node, before[place]));
  }

  /** What the buttons may do now, and why not. */
  refresh() {
    const { item, paused } = this.state;
    const words = inWords(this.order, (place) => LETTERS[place]);
    const left = this.unranked().map(({ place }) => LETTERS[place]).join(", ");
    const open = item && !paused;
    turn(this.submit, open && words && !this.waiting);
    turn(this.skip, open);
    turn(this.flag, open);
    turn(this.undo, this.state.done > 0 && !paused);
    turn(this.pause, item);
    this.why.replaceChildren(this.busy ? "Python is busy with another cell. Your answer is saved "
      + "as soon as that cell ends: keep this page open."
      : !open ? "" : this.waiting ? "Saving …"
      : !words ? "Rank at least the best one, then submit."
        : left ? `Saves ${words}; unranked: ${left}` : `Saves ${words}`);
  }

  unranked() {
    return this.cards.filter(({ place }) => groupOf(this.order, place) < 0);
  }

  // ---- what a person does --------------------------------------------------------------------

  change(place, order) {
    if (this.waiting) return;
    this.order = fitted(order, this.cards.length);
    this.arrange();
    this.refresh();
    this.cards[place].node.focus({ preventScroll: true });
    bringIntoView(this.cards[place].node);
    this.say(`${this.cards[place].says}.`);
  }

  tie(place) {
    const order = toggleTie(this.order, place);
    if (order === this.order) return this.say("There is nothing above to tie it with.");
    this.change(place, order);
  }

  grab(event, place) {
    const onHandle = event.target.classList.contains("handle");
    if (event.button !== 0 || this.drag || event.target.closest("button")) return;
    if (event.pointerType !== "mouse" && !onHandle) return; // elsewhere a finger scrolls
    event.preventDefault();
    const card = this.cards[place];
    card.node.focus({ preventScroll: true });
    this.drag = new Drag(this.zones, card, event, (target) => {
      this.drag = null;
      if (!target) return;
      this.change(place, DROPS[target.kind](this.order, place, target));
    });
  }

  toggle(button, part, open = part.hidden) {
    part.hidden = !open;
    button.setAttribute("aria-expanded", open);
  }

  /** Open the reasons and go to the first, or close them. */
  toggleReasons() {
    this.toggle(this.flag, this.reasons);
    const first = this.reasons.querySelector("button");
    (this.reasons.hidden ? this.flag : first).focus({ preventScroll: true });
  }

  /** Go to a response by its letter. */
  pick(place) {
    const card = this.cards[place];
    if (!card?.node.isConnected) return;
    card.node.focus({ preventScroll: true });
    bringIntoView(card.node);
  }

  togglePause() {
    this.send(this.state.paused ? "resume" : "pause");
  }

  sendOrder() {
    this.send("submit", { order: this.order.filter((group) => group.length > 0) });
  }

  sendName(name) {
    if (name.trim()) this.send("name", { name });
    else this.say("Write a name first.");
  }

  sendFlag(reason) {
    this.send("flag", { reason });
  }

  // ---- talking -------------------------------------------------------------------------------

  send(action, more = {}) {
    if (this.waiting) return;
    this.waiting = true;
    this.refresh();
    this.patience = [
      setTimeout(() => { this.busy = true; this.refresh(); }, BUSY_AFTER),
      setTimeout(() => this.stopWaiting(), ANSWER_WITHIN)];
    try {
      this.model.send({ action, serial: this.state.serial, ...more });
    } catch { // the kernel that made this widget is gone
      this.stopWaiting();
    }
  }

  endWaiting() {
    this.patience?.forEach(clearTimeout);
    this.waiting = this.busy = false;
  }

  stopWaiting() {
    this.endWaiting();
    this.refresh();
    this.complain("Python has not answered, so this is not saved yet. If another cell is running, "
      + "it is saved when that cell ends. If the kernel was restarted, run this cell again.");
  }

  say(text) {
    const again = this.status.textContent === text; // then change it, or screen readers stay silent
    this.status.replaceChildren(again ? `${text}\u00a0` : text);
  }

  complain(text) {
    this.problem.hidden = !text;
    this.problem.replaceChildren(text);
  }

  focused() {
    return this.root.getRootNode().activeElement;
  }
}

export default {
  render({ model, el }) {
    const view = new RankingView(model, el);
    const update = () => view.update();
    model.on("change:state", update);
    return () => model.off("change:state", update);
  },
};
