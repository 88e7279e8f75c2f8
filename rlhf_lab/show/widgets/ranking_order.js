// The order a person has given so far, as pure functions: each returns a new order.
//
// An order is a list of groups, best first. A group is a list of places: a response's place on
// screen, counted from 0. Several places in a group are a tie. An empty group keeps a rank free,
// for example when a person gives rank 3 before rank 1. A place in no group is unranked. A move may
// push ranks beyond the number of responses: `fitted` corrects that.

/** The rank of the group at `index`: a tie counts all of its places, as in 1, 1, 3. */
function rankAt(order, index) {
  return order.slice(0, index).reduce((rank, group) => rank + Math.max(1, group.length), 1);
}

/** The index of the group that holds `place`, -1 where it is unranked. */
function groupOf(order, place) {
  return order.findIndex((group) => group.includes(place));
}

/** The rank that a response gets when it is put below all others. */
function lastRank(order) {
  return rankAt(order, order.length);
}

/** The best rank that nobody holds. */
function freeRank(order) {
  const free = order.findIndex((group) => group.length === 0);
  return rankAt(order, free < 0 ? order.length : free);
}

/** `place` taken out; if it was alone in its group, the group goes too. */
function without(order, place) {
  const others = order
    .filter((group) => !(group.length === 1 && group[0] === place))
    .map((group) => group.filter((other) => other !== place));
  return withoutFreeEnd(others);
}

/** `place` at `rank`. The groups from there on move down one rank, as far as the next free rank.
 *  Free ranks above stay free. */
function giveRank(order, place, rank) {
  const groups = without(order, place);
  while (lastRank(groups) < rank) groups.push([]);
  const found = groups.findIndex((_, index) => rankAt(groups, index) >= rank);
  const at = found < 0 ? groups.length : found;
  const free = groups.findIndex((group, index) => index >= at && group.length === 0);
  if (free >= 0) groups.splice(free, 1);
  groups.splice(at, 0, [place]);
  return groups;
}

/** `place` at the best rank that nobody holds. */
function takeFreeRank(order, place) {
  return giveRank(order, place, freeRank(order));
}

/** `place` below all others that have a rank. */
function append(order, place) {
  return [...without(order, place), [place]];
}

/** `place` in a group of its own, just above or below the group of `anchor`. */
function putBeside(order, place, anchor, below) {
  const groups = without(order, place);
  groups.splice(groupOf(groups, anchor) + (below ? 1 : 0), 0, [place]);
  return groups;
}

/** `place` in one group with `anchor`. */
function tieWith(order, place, anchor) {
  return without(order, place).map((group) =>
    group.includes(anchor) ? [...group, place].sort((a, b) => a - b) : group);
}

/** The place that `place` would be tied with: the nearest one above it; undefined if none is. */
function aboveOf(order, place) {
  const at = groupOf(order, place);
  return order.slice(0, at < 0 ? order.length : at).flat().at(-1);
}

/** A tie undone, or else a tie with the nearest one above. */
function toggleTie(order, place) {
  const at = groupOf(order, place);
  if (order[at]?.length > 1) return leaveTie(order, at, place, true);
  const anchor = aboveOf(order, place);
  return anchor === undefined ? order : tieWith(order, place, anchor);
}

/** One step up: out of a tie, past the group above, or from the unranked to the last rank. */
function raise(order, place) {
  const at = groupOf(order, place);
  if (at < 0) return append(order, place);
  if (order[at].length > 1) return leaveTie(order, at, place, false);
  return at === 0 ? order : swapped(order, at - 1);
}

/** One step down: out of a tie, past the group below, or from the last rank to the unranked. */
function lower(order, place) {
  const at = groupOf(order, place);
  if (at < 0) return order;
  if (order[at].length > 1) return leaveTie(order, at, place, true);
  return at === order.length - 1 ? without(order, place) : swapped(order, at);
}

/** The order as a person would say it: "A > B = C". */
function inWords(order, nameOf) {
  return order.filter((group) => group.length > 0)
    .map((group) => group.map(nameOf).join(" = ")).join(" > ");
}

function leaveTie(order, at, place, below) {
  return putBeside(order, place, order[at].find((other) => other !== place), below);
}

function swapped(order, at) {
  const [upper, lower, ...rest] = order.slice(at);
  return withoutFreeEnd([...order.slice(0, at), lower, upper, ...rest]);
}

function withoutFreeEnd(order) {
  const last = order.findLastIndex((group) => group.length > 0);
  return order.slice(0, last + 1);
}

/** Free ranks removed, the lowest first, until no rank is beyond `count`. */
function fitted(order, count) {
  const groups = [...order];
  while (lastRank(groups) - 1 > count) {
    groups.splice(groups.findLastIndex((group) => group.length === 0), 1);
  }
  return groups;
}
