// The grid: only the cards on the screen exist, whatever the number of videos.

import { byId, clock, fill, make, named, percent, tint } from "./dom.js";
import { header, isPart, state } from "./data.js";

const GAP = 12, FOOT = 50, OVERSCAN = 1;
const MOST_AT_A_TIME = 4;

export const grid = {
  shown: [], // keys, in order; they stay until the filter is changed
  selected: new Set(),
  current: "",
  columns: 1,
  onOpen: () => {},
  onSelect: () => {},
};

const cards = new Map(); // key -> card
let width = 0, cardWidth = 0, cardHeight = 0, left = 0;

const area = byId("grid"), space = byId("space");

export function start() {
  area.addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
  new ResizeObserver(measure).observe(area);
  area.addEventListener("click", (event) => {
    const card = event.target.closest(".card");
    if (!card) return;
    const again = event.pointerType === "touch" && grid.current === card.dataset.key;
    choose(card.dataset.key, event);
    if (again) grid.onOpen(card.dataset.key);
  });
  area.addEventListener("dblclick", (event) => {
    const card = event.target.closest(".card");
    if (card) grid.onOpen(card.dataset.key);
  });
}

function measure() {
  const inner = area.clientWidth;
  if (!inner || inner === width) return;
  width = inner;
  const wanted = inner < 560 ? 165 : inner < 1100 ? 196 : 212;
  const room = inner - 2 * GAP;
  grid.columns = Math.max(1, Math.floor((room + GAP) / (wanted + GAP)));
  cardWidth = Math.floor((room - GAP * (grid.columns - 1)) / grid.columns);
  cardHeight = Math.round((cardWidth * 2) / 3) + FOOT;
  left = GAP;
  cards.forEach((card) => card.element.remove());
  cards.clear();
  draw();
}

/** Shows other videos. */
export function show(keys, { keep = false } = {}) {
  grid.shown = keys;
  for (const key of grid.selected) if (!state.byKey.has(key)) grid.selected.delete(key);
  if (!keep) {
    area.scrollTop = 0;
    grid.selected.clear();
    grid.current = keys[0] || "";
    if (grid.current) grid.selected.add(grid.current);
  }
  draw();
  grid.onSelect();
}

export function draw() {
  if (!cardWidth) return measure();
  const rows = Math.ceil(grid.shown.length / grid.columns);
  const step = cardHeight + GAP;
  space.style.height = `${rows * step + GAP}px`;
  const first = Math.max(0, Math.floor((area.scrollTop - GAP) / step) - OVERSCAN);
  const last = Math.min(rows, Math.ceil((area.scrollTop + area.clientHeight) / step) + OVERSCAN);
  const wanted = new Set();
  for (let i = first * grid.columns; i < Math.min(last * grid.columns, grid.shown.length); i++) {
    const key = grid.shown[i], row = state.byKey.get(key);
    if (!row) continue;
    wanted.add(key);
    let card = cards.get(key);
    if (!card) {
      card = newCard(key);
      cards.set(key, card);
      space.append(card.element);
    }
    const x = left + (i % grid.columns) * (cardWidth + GAP), y = GAP + Math.floor(i / grid.columns) * step;
    card.element.style.transform = `translate(${x}px, ${y}px)`;
    paint(card, row);
  }
  for (const [key, card] of cards) {
    if (wanted.has(key)) continue;
    card.gone = true;
    card.element.remove();
    cards.delete(key);
  }
  pump();
}

function newCard(key) {
  const picture = make("div.picture");
  const badges = make("div.badges"), time = make("span.time");
  const frame = make("div.frame", {}, picture, badges, time);
  const foot = make("div.foot");
  const element = make("article.card", {}, frame, foot);
  element.dataset.key = key;
  element.style.width = `${cardWidth}px`;
  element.style.height = `${cardHeight}px`;
  frame.style.height = `${cardHeight - FOOT}px`;
  return { key, element, picture, badges, time, foot, said: "", asked: false, gone: false };
}

/** Writes what is known of a video onto its card, if it is new. */
function paint(card, row) {
  const { advice, classes } = state;
  const likely = !row.c && advice.likely.get(row.key);
  const wrong = advice.wrong.get(row.key), copies = advice.copies.get(row.key);
  const selected = grid.selected.has(row.key), current = grid.current === row.key;
  card.element.classList.toggle("selected", selected);
  card.element.classList.toggle("current", current && selected);
  card.element.ariaSelected = String(selected);
  const said = JSON.stringify([row.c, row.x, row.g, row.p, row.n, row.name, likely, wrong, copies, classes.indexOf(row.c)]);
  if (said === card.said) return;
  card.said = said;
  card.element.classList.toggle("out", row.x);
  const file = row.name.split("/").pop(), folder = row.name.slice(0, -file.length);
  const title = named(file, "div");
  title.className = "name";
  title.title = row.name;
  const where = [folder.replace(/\/$/, ""), row.g && `group ${row.g}`, row.p].filter(Boolean).join(" · ");
  const pill = row.c
    ? make(`span.pill.${tint(classes.indexOf(row.c))}`, {}, named(row.c))
    : likely
      ? make(`span.pill.maybe.${tint(classes.indexOf(likely[0]))}`, { title: "Likely; y accepts it" }, named(likely[0]), ` ${percent(likely[1])}`)
      : make("span.pill.none", {}, "no class");
  const under = named(where, "span");
  under.className = "where dim";
  fill(card.foot, title, make("div.line", {}, pill, under));
  fill(
    card.badges,
    row.x && make("span.badge.warn", {}, "left out"),
    row.c && wrong && make("span.badge.warn", { title: `Looks like ${wrong[0]}` }, "looks like ", named(wrong[0])),
    copies && make("span.badge", { title: "The same footage occurs elsewhere" }, copies.length > 1 ? `${copies.length} copies` : "copy"),
    row.n && make("span.badge", { title: row.n }, "note"),
  );
}

// Pictures are asked for when a card is on the screen, few at a time.
let under = 0;
function pump() {
  for (const card of cards.values()) {
    if (under >= MOST_AT_A_TIME) return;
    if (card.asked || !onScreen(card)) continue;
    card.asked = true;
    under += 1;
    picture(card).finally(() => { under -= 1; pump(); });
  }
}

function onScreen(card) {
  const box = card.element.getBoundingClientRect(), outer = area.getBoundingClientRect();
  return box.bottom > outer.top - 40 && box.top < outer.bottom + 40;
}

async function picture(card) {
  const row = state.byKey.get(card.key);
  if (!row || card.gone) return;
  const known = await header(row.v);
  const seconds = (row.e ?? known.seconds) - (row.s ?? 0);
  card.time.textContent = isPart(row) ? `${clock(row.s ?? 0, 1)} – ${row.e === null ? "end" : clock(row.e, 1)}` : seconds > 0 ? clock(seconds, seconds < 60 ? 1 : 0) : "";
  if (known.fault) return unusable(card, known.fault);
  if (card.gone) return;
  const url = pictureUrl(row, known);
  const image = new Image();
  image.src = url;
  try {
    await image.decode();
  } catch {
    return unusable(card, "no picture can be decoded");
  }
  if (card.gone) return;
  card.picture.style.backgroundImage = `url("${url}")`;
  card.picture.classList.add("ready");
}

export function pictureUrl(row, known) {
  const query = isPart(row) ? `?s=${row.s ?? 0}&e=${row.e ?? known.seconds}` : "";
  return `/pictures/${row.v}${query}`;
}

function unusable(card, reason) {
  fill(card.picture, make("p.fault", {}, "Can't be shown: ", reason));
  card.picture.classList.add("ready");
}

export function choose(key, { shiftKey = false, ctrlKey = false, metaKey = false } = {}) {
  if (shiftKey && grid.current) {
    const [a, b] = [grid.shown.indexOf(grid.current), grid.shown.indexOf(key)].sort((x, y) => x - y);
    if (!ctrlKey && !metaKey) grid.selected.clear();
    grid.shown.slice(a, b + 1).forEach((one) => grid.selected.add(one));
  } else if (ctrlKey || metaKey) {
    if (!grid.selected.delete(key)) grid.selected.add(key);
    grid.current = key;
  } else {
    grid.selected.clear();
    grid.selected.add(key);
    grid.current = key;
  }
  draw();
  grid.onSelect();
}

/** Moves the selection by cards; with `extend`, selects what is between. */
export function move(by, { extend = false } = {}) {
  const at = grid.shown.indexOf(grid.current);
  const to = Math.max(0, Math.min(grid.shown.length - 1, at + by));
  const key = grid.shown[to];
  if (!key) return;
  if (extend) grid.selected.add(key);
  else grid.selected.clear();
  grid.selected.add(key);
  grid.current = key;
  reveal(to);
  draw();
  grid.onSelect();
}

export function reveal(at) {
  const top = GAP + Math.floor(at / grid.columns) * (cardHeight + GAP), bottom = top + cardHeight;
  if (top - GAP < area.scrollTop) area.scrollTop = top - GAP;
  else if (bottom + GAP > area.scrollTop + area.clientHeight) area.scrollTop = bottom + GAP - area.clientHeight;
}

export const rowsPerPage = () => Math.max(1, Math.floor(area.clientHeight / (cardHeight + GAP))) * grid.columns;
