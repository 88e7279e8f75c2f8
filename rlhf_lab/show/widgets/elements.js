// Elements for every page. Text from models and people is added as text nodes, never as markup.

const HIDDEN_CHARACTER = /(⟨U\+[0-9A-F]{4,6}⟩)/; // how Python writes invisible characters

/** An element. Attributes that start with "on" are listeners; children are nodes and texts. */
function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value);
  }
  if (tag === "button") node.type = "button";
  if (tag === "button" || "tabindex" in attributes) keepShortcutsAway(node);
  node.append(...children);
  return node;
}

/** Without this, JupyterLab runs its shortcuts (x cuts the cell) from every focused element. */
function keepShortcutsAway(node) {
  node.setAttribute("data-lm-suppress-shortcuts", "true");
}

/** Untrusted text as nodes; the codes of invisible characters get a style of their own. */
function pieces(text) {
  return text.split(HIDDEN_CHARACTER).map((piece, number) =>
    number % 2 ? make("span", { class: "code" }, piece.slice(1, -1)) : piece);
}
