// Dragging a card with the mouse, a finger or a pen (pointer events; touch has no drag and drop).

const STILL = 4; // pixels: a pointer that moved less is a click, not a drag
const TIE_EDGE = 36; // pixels at a card's upper and lower edge that mean above and below, not a tie
const SCROLL_EDGE = 48; // pixels from the edge of the scrolling part: dragging there scrolls it
const SCROLL_STEP = 10; // pixels a frame

/** What each kind of target does to the order. */
const DROPS = {
  unranked: (order, place) => without(order, place),
  next: (order, place) => append(order, place),
  free: (order, place, target) => giveRank(order, place, target.rank),
  above: (order, place, target) => putBeside(order, place, target.anchor, false),
  below: (order, place, target) => putBeside(order, place, target.anchor, true),
  tie: (order, place, target) => tieWith(order, place, target.anchor),
};

/** One card while it is dragged, from pointer down to pointer up. */
class Drag {
  constructor(zones, card, down, whenDone) {
    Object.assign(this, { zones, card, whenDone, target: null, moved: false });
    this.scroller = scrollerOf(card.node);
    this.y = this.startY = down.clientY;
    this.startScroll = this.scroller.scrollTop;
    this.listeners = new AbortController();
    const grip = down.currentTarget;
    const listen = (kind, act) =>
      grip.addEventListener(kind, act, { signal: this.listeners.signal });
    listen("pointermove", (event) => this.follow(event.clientY));
    listen("pointerup", () => this.end(this.target));
    listen("pointercancel", () => this.cancel());
    listen("lostpointercapture", () => this.cancel());
    grip.setPointerCapture(down.pointerId);
  }

  follow(y) {
    this.y = y;
    if (!this.moved && Math.abs(y - this.startY) >= STILL) {
      this.moved = true;
      this.card.node.classList.add("dragged");
      this.scrollAtEdges();
    }
    if (this.moved) this.draw();
  }

  draw() {
    const distance = this.y - this.startY + this.scroller.scrollTop - this.startScroll;
    this.card.node.style.transform = `translateY(${distance}px)`;
    this.mark(targetAt(this.zones, this.card.place, this.y));
  }

  mark(target) {
    if (this.target) delete this.target.box.dataset.drop;
    this.target = target;
    if (target) target.box.dataset.drop = target.kind;
  }

  scrollAtEdges() {
    if (this.listeners.signal.aborted) return;
    const { top, bottom } = visiblePart(this.scroller);
    const step = this.y < top + SCROLL_EDGE ? -SCROLL_STEP
      : this.y > bottom - SCROLL_EDGE ? SCROLL_STEP : 0;
    if (step) {
      this.scroller.scrollTop += step;
      this.draw();
    }
    requestAnimationFrame(() => this.scrollAtEdges());
  }

  cancel() {
    this.end(null);
  }

  end(target) {
    this.listeners.abort();
    this.mark(null);
    this.card.node.classList.remove("dragged");
    this.card.node.style.transform = "";
    this.whenDone(target);
  }
}

/** Where a card goes if it is dropped at height `y`; null if it stays where it is. */
function targetAt({ ranked, unranked }, place, y) {
  if (y >= unranked.getBoundingClientRect().top) return { kind: "unranked", box: unranked };
  const boxes = [...ranked.children];
  const box = boxes.find((one) => y < one.getBoundingClientRect().bottom) ?? boxes.at(-1);
  if (box.dataset.kind) return { kind: box.dataset.kind, rank: Number(box.dataset.rank), box };
  const places = box.dataset.places.split(",").map(Number);
  const anchor = places.find((other) => other !== place);
  if (anchor === undefined) return null;
  const { top, bottom, height } = box.getBoundingClientRect();
  const edge = Math.min(TIE_EDGE, 0.3 * height);
  if (y < top + edge) return { kind: "above", anchor, box };
  if (y > bottom - edge) return { kind: "below", anchor, box };
  return places.includes(place) ? null : { kind: "tie", anchor, box };
}

/** Scroll up or down until the node is in view, its top first. Unlike scrollIntoView it never
 *  scrolls sideways, which on a phone would push the page out of sight. */
function bringIntoView(node) {
  const scroller = scrollerOf(node);
  const [seen, box] = [visiblePart(scroller), node.getBoundingClientRect()];
  const above = box.top - seen.top;
  const below = Math.min(box.bottom - seen.bottom, above);
  if (above < 0 || below > 0) scroller.scrollTop += above < 0 ? above : below;
}

function scrollerOf(node) {
  for (let outer = node.parentElement; outer; outer = outer.parentElement) {
    const scrolls = /auto|scroll/.test(getComputedStyle(outer).overflowY);
    if (scrolls && outer.scrollHeight > outer.clientHeight + 1) return outer;
  }
  return document.scrollingElement;
}

function visiblePart(scroller) {
  const { top, bottom } = scroller.getBoundingClientRect();
  return { top: Math.max(top, 0), bottom: Math.min(bottom, window.innerHeight) };
}
