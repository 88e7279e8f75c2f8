// The pieces of the page. Text from models and people is added as text nodes, never as markup.

const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"; // the name of a response, by its place on screen
const PICKED = 5; // the keys A to E go to a response; F flags
const KEYS = [ // the legend's entries after the digits
  [["↑", "↓"], "move it"],
  [["Space"], "pick up, drop"],
  [["=", "T"], "tie with the one above"],
  [["0"], "unrank"],
  [["M"], "show all of it"],
  [["Enter"], "submit"],
  [["S"], "skip"],
  [["F"], "flag"],
  [["U"], "undo"],
  [["P"], "pause"],
  [["?"], "guidelines"],
];

/** Switch a button on or off. Unlike `disabled` this does not move the focus to the notebook. */
function turn(button, on) {
  button.setAttribute("aria-disabled", !on);
}

function isOff(button) {
  return button.getAttribute("aria-disabled") === "true";
}

/** A box with untrusted text, clipped to a few lines, and the button that shows all of it. */
function makeText(text, id) {
  const body = make("div", { class: "text", dir: "auto", tabindex: -1, id }, ...pieces(text));
  const isOpen = () => body.classList.contains("open");
  const more = make("button", { class: "more", tabindex: -1, onclick: () => open(!isOpen()) });
  const open = (all) => {
    body.classList.toggle("open", all);
    more.replaceChildren(all ? "Show less" : `Show all ${text.length.toLocaleString()} characters`);
  };
  open(false);
  new ResizeObserver(() => {
    more.hidden = !isOpen() && body.scrollHeight <= body.clientHeight + 2;
  }).observe(body);
  return { body, more };
}

/** A response: its handle, rank, name, buttons and text. `act` holds what the buttons do. */
function makeCard(place, text, act) {
  const name = `Response ${LETTERS[place]}`;
  const id = `rlhf-ranking-${crypto.getRandomValues(new Uint32Array(1))[0]}-${place}`;
  const button = (symbol, word, title, onclick) =>
    make("button", { tabindex: -1, title, "aria-label": `${title}: ${name}`, onclick },
      symbol, make("span", { class: "word" }, ` ${word}`));
  const card = {
    place,
    name,
    rank: make("span", { class: "rank", "aria-hidden": true }),
    first: make("button", { class: "first", tabindex: -1, onclick: act.takeFreeRank }),
    tie: button("=", "Tie", "Tie with the one above", act.tie),
    ...makeText(text, id),
  };
  card.moves = make("span", { class: "moves" },
    button("▲", "Up", "Move up", act.raise), button("▼", "Down", "Move down", act.lower),
    card.tie, button("✕", "Unrank", "Leave unranked", act.unrank));
  const handle = make("span", { class: "handle", title: "Drag", "aria-hidden": true }, "⠿");
  const head = make("div", { class: "head", onpointerdown: act.grab },
    handle, card.rank,
    make("span", { class: "name" }, make("span", { class: "word" }, "Response "), LETTERS[place]),
    card.first, card.moves);
  card.node = make("div", { class: "card", tabindex: 0, role: "group", "aria-describedby": id },
    head, card.body, card.more);
  card.body.addEventListener("focus", () => card.node.focus({ preventScroll: true }));
  return card;
}

/** Write on a card what the order says about it. */
function labelCard(card, order, count) {
  const at = groupOf(order, card.place);
  const [ranked, tied] = [at >= 0, order[at]?.length > 1];
  const rank = ranked ? rankAt(order, at) : freeRank(order);
  const says = ranked ? `rank ${rank} of ${count}${tied ? ", tied" : ""}` : "unranked";
  card.says = `${card.name}: ${says}`;
  card.node.setAttribute("aria-label", `${card.name}, ${says}`);
  card.rank.replaceChildren(ranked ? `${rank}${tied ? "=" : ""}` : "–");
  card.first.hidden = ranked;
  card.moves.hidden = !ranked;
  card.first.replaceChildren(`▲ Rank ${rank}`);
  card.first.setAttribute("aria-label", `Rank ${rank}: ${card.name}`);
  card.tie.setAttribute("aria-pressed", tied);
}

/** A rank that nobody holds, as a place to drop on. */
function makeFree(rank, kind) {
  const hint = rank > 1 ? (kind === "next" ? "next best" : "free; removed when you submit")
    : "the best goes here";
  return make("li", { class: "free", "data-kind": kind, "data-rank": rank },
    make("span", { class: "rank" }, rank), hint);
}

/** Let a moved card glide from its old place, unless the person asked for reduced motion. */
function slide(node, from) {
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const distance = from - topOf(node);
  if (from === null || !distance || still) return;
  node.animate([{ transform: `translateY(${distance}px)` }, { transform: "none" }],
    { duration: 160, easing: "ease-out" });
}

function topOf(node) {
  return node.getBoundingClientRect().top;
}

function makeZones() {
  return { ranked: make("ol", { class: "zone" }), unranked: make("div", { class: "zone" }) };
}

/** What is known about a prompt, to be opened with a click. */
function makeFacts(facts) {
  if (!facts.length) return [];
  const rows = facts.map(([name, value]) => make("div", {}, make("dt", { dir: "auto" },
    ...pieces(name.replaceAll("_", " "))), make("dd", { dir: "auto" }, ...pieces(value))));
  return [make("details", { class: "facts" },
    make("summary", {}, "What is known about this prompt"), make("dl", {}, ...rows))];
}

/** Asks for a name before the first prompt. */
function makeNameForm(give) {
  const field = make("input", { type: "text", maxlength: 60, autocomplete: "off",
    "aria-label": "Your name", "data-lm-suppress-shortcuts": "true" });
  field.addEventListener("keydown", (event) => event.key === "Enter" && give(field.value));
  return [
    make("p", { class: "end" }, "Who is ranking? Choose a name: it is stored with each of your ",
      "rankings. Use the same name to continue later; another name counts as another person."),
    make("div", { class: "ask" }, field,
      make("button", { class: "submit", onclick: () => give(field.value) }, "Begin")),
  ];
}

/** The page of one prompt; its cards go into the zones. */
function makeItem({ prompt, facts, texts }, { ranked, unranked }) {
  const { body, more } = makeText(prompt, "");
  return [
    make("p", { class: "narrow" }, "Little room? Close the side bars (menu View, Appearance)."),
    make("div", { class: "prompt" }, make("h3", {}, "Prompt"), body, more, ...makeFacts(facts)),
    make("p", { class: "how" }, "Which response is best? Put them in order with their buttons, ",
      "by dragging ", make("b", {}, "⠿"), ", or with the keys."),
    makeLegend(texts.length),
    make("h3", {}, "Ranked, best first"),
    ranked,
    make("h3", {}, "Unranked ", make("small", {}, "counts as worse than all above")),
    unranked,
  ];
}

function makePaused() {
  return [make("p", { class: "end" }, make("b", {}, "Paused. "),
    "Your time is not counted. What you submitted is saved: you can close the notebook and ",
    "continue another day.")];
}

function makeEnd({ done, store }) {
  const text = done ? `All done, thank you. Your ${done} answers are saved in ${store}.`
    : `Nothing to rank: ${store} holds no prompt with two different responses.`;
  return [make("p", { class: "end" }, text)];
}

function makeLegend(count) {
  const entry = ([keys, does]) => make("span", { class: "entry" },
    ...keys.map((key) => (key === "…" ? key : make("kbd", {}, key))), ` ${does}`);
  return make("div", { class: "legend", role: "note", "aria-label": "Keys" },
    make("b", {}, "Keys"), entry([["Tab"], "next response"]),
    entry([["A", "…", LETTERS[Math.min(count, PICKED) - 1]], "go to that response"]),
    entry([["1", "…", count], "give it that rank"]), ...KEYS.map(entry));
}

/** Guidelines in the little Markdown they use: headings, lists, paragraphs, bold and italics. */
function makeGuidelines({ text, version }) {
  const styled = (line) => line.split(/(\*\*[^*]+\*\*|\*[^*]+\*)/).map((piece, number) =>
    number % 2 ? make(piece[1] === "*" ? "b" : "em", {}, piece.replaceAll("*", "")) : piece);
  const blocks = text.split("\n").filter((line) => line.trim()).map((line) => {
    const [, sign, rest] = line.match(/^\s*(#+ |[-*] |\d+\. )?(.*)$/);
    return make(!sign ? "p" : sign[0] === "#" ? "h4" : "li", {}, ...styled(rest));
  });
  return [...blocks, make("small", {}, `Guidelines, version ${version}`)];
}
