"use strict";
// Next: right, down, space, page down. Back: left, up, page up. First and last: Home, End.
// n: notes beside the slide. w: notes in a second window; the two turn their pages together.
const sections = [...document.querySelectorAll("section")];
const main = document.querySelector("main");
const page = document.body.classList;
let other = window.opener;
let at = 0;

function fit() {
  const scale = Math.min(innerWidth / 1280, innerHeight / 720);
  const left = (innerWidth - 1280 * scale) / 2, top = (innerHeight - 720 * scale) / 2;
  main.style.transform = `translate(${left}px, ${top}px) scale(${scale})`;
}

function show(number, told = false) {
  if (!Number.isInteger(number)) return;
  at = Math.max(0, Math.min(sections.length - 1, number));
  sections.forEach((section, i) => { section.hidden = i !== at; });
  history.replaceState(null, "", "#" + (at + 1));
  const heading = sections[at].querySelector("h1, h2").textContent;
  document.getElementById("where").textContent = `Slide ${at + 1} of ${sections.length}: ${heading}`;
  if (!told && other && !other.closed) other.postMessage({ slide: at }, "*");
}

function notes() { page.toggle("notes"); }

function second() {
  other = window.open(location.href.split("#")[0] + "#" + (at + 1) + "n", "rlhf-notes", "width=1280,height=760");
}

const keys = {
  ArrowRight: () => show(at + 1), ArrowDown: () => show(at + 1), PageDown: () => show(at + 1),
  ArrowLeft: () => show(at - 1), ArrowUp: () => show(at - 1), PageUp: () => show(at - 1),
  Home: () => show(0), End: () => show(sections.length - 1), n: notes, w: second,
};

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const onButton = event.target.tagName === "BUTTON";
  const action = event.key === " " && !onButton ? () => show(at + (event.shiftKey ? -1 : 1)) : keys[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});

let rest = 0;
for (const kind of ["mousemove", "touchstart"]) addEventListener(kind, () => {  // show the buttons
  page.add("moved");
  clearTimeout(rest);
  rest = setTimeout(() => page.remove("moved"), 2000);
}, { passive: true });

let touched = null;
addEventListener("touchstart", (event) => { touched = event.touches[0].clientX; }, { passive: true });
addEventListener("touchend", (event) => {
  const moved = event.changedTouches[0].clientX - touched;
  if (Math.abs(moved) > 50) show(at - Math.sign(moved));
});

const buttons = { back: () => show(at - 1), on: () => show(at + 1), notes, second };
for (const [id, action] of Object.entries(buttons)) document.getElementById(id).onclick = action;
addEventListener("message", (event) => {
  if (event.source === other) show(event.data.slide, true);
});
addEventListener("resize", fit);

const [, number, withNotes] = /^#(\d+)(n?)$/.exec(location.hash) ?? [null, "1", ""];
page.add("ready");
if (withNotes) notes();
fit();
show(Number(number) - 1, true);
