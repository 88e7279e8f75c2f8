// The keyboard: what each key does in a ranking view.

/** Handle every key pressed in the view, and keep it from the notebook around it. */
function listenToKeys(view) {
  view.root.addEventListener("keydown", (event) => {
    event.stopPropagation(); // or the notebook takes it for one of its shortcuts
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input")) return;
    if (event.target.closest("button") && ["Enter", " "].includes(event.key)) return; // a click
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const card = view.cards.find(({ node }) => node.contains(event.target));
    const act = (card && cardKey(view, card, key)) ?? anyKey(view, key);
    if (!act) return;
    event.preventDefault();
    if (!event.repeat || key.startsWith("Arrow")) act();
  });
}

/** What a key does on a card. */
function cardKey(view, card, key) {
  const move = (step, ...more) => () =>
    view.change(card.place, step(view.order, card.place, ...more));
  if (/^[1-9]$/.test(key)) return move(giveRank, Math.min(Number(key), view.cards.length));
  return {
    ArrowUp: move(raise),
    ArrowDown: move(lower),
    0: move(without),
    "=": () => view.tie(card.place),
    t: () => view.tie(card.place),
    m: () => card.more.hidden || card.more.click(),
    " ": () => pickUpOrDrop(view, card),
    Enter: () => (view.held ? pickUpOrDrop(view, card) : submit(view)),
  }[key];
}

/** What a key does anywhere in the view. */
function anyKey(view, key) {
  const letter = LETTERS.slice(0, Math.min(PICKED, view.cards.length)).indexOf(key.toUpperCase());
  if (key.length === 1 && letter >= 0) return () => view.pick(letter);
  return {
    s: () => view.skip.click(),
    f: () => view.flag.click(),
    u: () => view.undo.click(),
    p: () => view.pause.click(),
    "?": () => view.help.click(),
    Escape: () => letGo(view),
  }[key];
}

function submit(view) {
  if (isOff(view.submit)) view.say("Rank at least the best one first.");
  else view.submit.click();
}

function pickUpOrDrop(view, card) {
  const dropped = view.held !== null;
  hold(view, dropped ? null : { card, order: view.order });
  view.say(dropped ? `Dropped. ${card.says}.`
    : `Picked up ${card.name}. Arrows move it, Space drops it, Escape puts it back.`);
}

function hold(view, held) {
  view.held?.card.node.classList.remove("held");
  view.held = held;
  held?.card.node.classList.add("held");
}

/** Escape: put back the card that is being moved; if there is none, close what is open. */
function letGo(view) {
  if (view.drag) return view.drag.cancel();
  if (view.held) {
    const { card, order } = view.held;
    hold(view, null);
    return view.change(card.place, order);
  }
  for (const [button, part] of [[view.flag, view.reasons], [view.help, view.guidelines]]) {
    if (part.contains(view.focused())) button.focus();
    view.toggle(button, part, false);
  }
}
