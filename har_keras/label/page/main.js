// Wires the page: filters, the bar of classes, keys, and what is said.

import { add, byId, fill, make, named, percent, tint, toast } from "./dom.js";
import * as data from "./data.js";
import { state } from "./data.js";
import * as gridView from "./grid.js";
import { grid } from "./grid.js";
import * as player from "./player.js";
import { chooseClass, exportMenu, keysHelp, prompt, trainPanel } from "./panels.js";
import { recorder } from "./recorder.js";

const VIEWS = [
  ["all", "All"], ["none", "No class yet"], ["part", "Parts"], ["next", "Label these next"],
  ["wrong", "Look wrong"], ["unsure", "In doubt"], ["copy", "Copies"], ["out", "Left out"],
];
const UNSURE = 0.6;
const filter = { view: "all", cls: null, split: "", group: "", text: "" };

const doubt = (row) => (row.c ? 1 - (state.advice.wrong.get(row.key)?.[1] ?? 0) : state.advice.likely.get(row.key)?.[1] ?? 1);

const IN_VIEW = {
  all: () => true,
  none: (row) => !row.c && !row.x,
  part: data.isPart,
  next: (row) => state.advice.next.includes(row.key),
  wrong: (row) => state.advice.wrong.has(row.key),
  unsure: (row) => !row.x && doubt(row) < UNSURE,
  copy: (row) => state.advice.copies.has(row.key),
  out: (row) => row.x,
};

function matches(row, view = filter.view) {
  const text = filter.text.toLowerCase();
  return IN_VIEW[view](row) &&
    (filter.cls === null || row.c === filter.cls) &&
    (!filter.split || row.p === filter.split) &&
    (!filter.group || row.g === filter.group) &&
    (!text || row.name.toLowerCase().includes(text) || row.n.toLowerCase().includes(text));
}

function sorted(rows) {
  const rank = (list) => new Map(list.map((key, place) => [key, place]));
  if (filter.view === "next") {
    const place = rank(state.advice.next);
    rows.sort((a, b) => place.get(a.key) - place.get(b.key));
  } else if (filter.view === "wrong") {
    const place = rank([...state.advice.wrong.keys()]);
    rows.sort((a, b) => place.get(a.key) - place.get(b.key));
  } else if (filter.view === "unsure") rows.sort((a, b) => doubt(a) - doubt(b));
  else if (filter.view === "copy") {
    const group = (row) => [row.key, ...state.advice.copies.get(row.key)].sort()[0];
    rows.sort((a, b) => group(a).localeCompare(group(b)));
  }
  return rows;
}

function showFiltered({ keep = false } = {}) {
  const keys = sorted(state.items.filter((row) => matches(row))).map((row) => row.key);
  gridView.show(keys, { keep });
  const empty = byId("empty");
  empty.hidden = keys.length > 0;
  empty.textContent = state.items.length === 0 ? "There is no video in this folder." : hintFor(filter.view);
  drawSide();
}

function hintFor(view) {
  const advised = ["next", "wrong", "unsure", "copy"].includes(view);
  if (advised && !state.help.on) return "Turn on Suggest to see these.";
  if (advised && state.help.state !== "ready") return state.help.text || "The suggestions are being computed …";
  return "No video matches.";
}

/** Keeps what is shown where it is, and puts new parts beside their video. */
function mergeItems() {
  const known = new Set(grid.shown), gone = grid.shown.filter((key) => !state.byKey.has(key));
  const videos = new Set([...grid.shown, ...gone].map((key) => key.split("|")[0]));
  const at = new Map();
  state.items.forEach((row, place) => at.set(row.key, place));
  const fresh = state.items.filter((row) => !known.has(row.key) && (videos.has(row.v) || matches(row)));
  const kept = grid.shown.filter((key) => state.byKey.has(key));
  if (["next", "wrong", "unsure", "copy"].includes(filter.view)) gridView.show([...kept, ...fresh.map((row) => row.key)], { keep: true });
  else gridView.show([...kept, ...fresh.map((row) => row.key)].sort((a, b) => at.get(a) - at.get(b)), { keep: true });
  if (!state.byKey.has(grid.current)) {
    const v = grid.current.split("|")[0];
    const next = grid.shown.find((key) => key.startsWith(`${v}|`)) || grid.shown[0];
    if (next) gridView.choose(next);
  }
}

const count = (test) => state.items.reduce((sum, row) => sum + (test(row) ? 1 : 0), 0);

function drawSide() {
  const button = (text, number, pressed, run, kind = "") => {
    const one = make(`button.choice${kind}`, { type: "button", onclick: run }, text, make("span.count", {}, number));
    one.ariaPressed = String(pressed);
    return one;
  };
  const per = new Map();
  state.items.forEach((row) => { if (!row.x) per.set(row.c, (per.get(row.c) || 0) + 1); });
  const views = VIEWS.filter(([view]) => ["all", "none", "out", filter.view].includes(view) ||
    (view === "part" ? state.items.some(data.isPart) : state.help.on));
  const select = (name, label, values) => values.length > 0 && make("label.field", {}, make("span", {}, label),
    make("select", { onchange: (event) => { filter[name] = event.target.value; showFiltered(); } },
      make("option", { value: "" }, "any"), values.map((one) => make("option", { value: one, selected: filter[name] === one }, one))));
  const values = (name) => [...new Set(state.items.map((row) => row[name]).filter(Boolean))].sort();
  fill(byId("side"),
    make("div.block", {}, views.map(([view, text]) => button(text, count(IN_VIEW[view]), filter.view === view, () => { filter.view = view; showFiltered(); }))),
    make("div.block", {}, make("h2", {}, "Classes"),
      state.classes.map((name, place) => button([make(`i.dot.${tint(place)}`), named(name)], per.get(name) || 0, filter.cls === name,
        () => { filter.cls = filter.cls === name ? null : name; showFiltered(); }, ".class")),
      make("button.choice.new", { type: "button", onclick: newClass }, "New class", make("kbd", {}, "n"))),
    make("div.block", {}, select("split", "Split", values("p")), select("group", "Group", values("g"))));
}

function drawTop() {
  byId("folder").textContent = state.folder;
  byId("folder").title = state.path;
  document.title = `${state.folder}: labels`;
  const used = state.items.filter((row) => !row.x), named_ = used.filter((row) => row.c).length;
  byId("count").textContent = `${named_} of ${used.length} labelled`;
  byId("meter").style.width = `${used.length ? (100 * named_) / used.length : 0}%`;
  byId("saved").textContent = state.pending ? "Saving …" : state.saved ? "Saved" : "";
  const notice = state.lost ? "The server doesn't answer. What was saved is in manifest.csv; start it again to go on." : state.fault;
  byId("notice").hidden = !notice;
  byId("notice").textContent = notice ? notice : "";
  const help = byId("help"), working = state.help.on && state.help.state === "working";
  help.ariaPressed = String(state.help.on);
  const share = state.help.fraction ? ` ${percent(state.help.fraction)}` : "";
  help.textContent = working ? `Suggest …${share}` : "Suggest";
  help.title = state.help.state === "failed" ? state.help.text : state.help.text || "Likely classes, what to label next, what looks wrong (h)";
  help.classList.toggle("bad", state.help.on && state.help.state === "failed");
  const train = byId("train"), { training } = state;
  train.textContent = training.state === "running" ? `Training${training.fraction ? ` ${percent(training.fraction)}` : " …"}` : "Train";
  train.classList.toggle("busy", training.state === "running");
}

const targets = () => (player.player.open ? [player.current()].filter(Boolean) : [...grid.selected].map((key) => state.byKey.get(key)).filter(Boolean));

function drawBar() {
  const rows = targets(), one = rows.length === 1 ? rows[0] : null;
  const key = (place) => (place < 9 ? make("kbd", {}, place + 1) : null);
  const items = state.classes.map((name, place) => {
    const button = make(`button.name.${tint(place)}`, { type: "button", onclick: () => label(name) }, key(place), named(name));
    button.ariaPressed = String(rows.length > 0 && rows.every((row) => row.c === name));
    return button;
  });
  const action = (text, hint, run, on = rows.length > 0) => make("button", { type: "button", onclick: run, disabled: !on }, make("kbd", {}, hint), text);
  fill(byId("bar"), make("div.names", {}, items, make("button.new", { type: "button", onclick: () => chooser() }, make("kbd", {}, "c"), state.classes.length ? "Other" : "Name a class")),
    make("div.acts", {}, action("Leave out", "x", leaveOut), action("Clear", "0", () => label("")), action("Undo", "u", undo, data.history.done.length > 0),
      make("span.dim.selection", {}, rows.length > 1 ? `${rows.length} selected` : one ? "" : "")));
}

async function label(name) {
  const rows = targets();
  if (!rows.length) return;
  const words = name ? `${name}${rows.length > 1 ? ` for ${rows.length} videos` : ""}` : "clear";
  const changes = rows.filter((row) => row.c !== name || row.x).map((row) => ({ row, set: name ? { c: name, x: false } : { c: "" } }));
  const whole = rows.length === 1 && !(player.player.open && data.isPart(rows[0]));
  if (changes.length && !(await data.change(changes, words))) return;
  if (name && whole) advance(1);
}

function advance(by) {
  if (!player.player.open) { gridView.move(by); return; }
  const at = grid.shown.indexOf(player.player.key);
  const next = grid.shown[at + by];
  if (!next) { toast(by > 0 ? "That was the last one." : "This is the first one."); return; }
  gridView.choose(next);
  player.open(next);
  player.warm(grid.shown[at + 2 * by]);
}

async function leaveOut() {
  const rows = targets();
  if (!rows.length) return;
  const out = !rows.every((row) => row.x);
  const fine = await data.change(rows.map((row) => ({ row, set: { x: out } })), out ? "leave out" : "use again");
  if (fine && out && rows.length === 1 && !data.isPart(rows[0])) advance(1);
}

async function accept() {
  const rows = targets(), changes = [];
  for (const row of rows) {
    const found = row.c ? state.advice.wrong.get(row.key) : state.advice.likely.get(row.key);
    if (found) changes.push({ row, set: { c: found[0], x: false } });
  }
  if (!changes.length) { toast(state.help.on ? "There is no suggestion for this." : "Turn on Suggest first (h)."); return; }
  if (await data.change(changes, changes.length === 1 ? changes[0].set.c : `${changes.length} suggestions`) && rows.length === 1) advance(1);
}

const undo = async () => { const v = await data.undo(); if (v) showVideo(v); };
const redo = async () => { const v = await data.redo(); if (v) showVideo(v); };

function showVideo(v) {
  const key = grid.shown.find((one) => one.startsWith(`${v}|`));
  if (!key) return;
  gridView.choose(key);
  gridView.reveal(grid.shown.indexOf(key));
  if (player.player.open) player.open(key);
}

const chooser = () => chooseClass(state.classes, label);

const newClass = () => prompt("New class", "", async (name) => {
  try {
    state.classes = (await data.post("/api/classes", { name })).classes;
    drawAll();
  } catch (error) { toast(error.message, "bad"); }
});

const edit = (name, words) => {
  const rows = targets();
  if (!rows.length) return;
  const field = player.player.open && byId(`field-${name}`);
  if (field) { field.focus(); field.select(); return; }
  prompt(words, rows.length === 1 ? rows[0][name] : "", (text) => data.change(rows.map((row) => ({ row, set: { [name]: text } })), words.toLowerCase()), { blank: true });
};

async function toggleHelp() {
  try {
    await data.post("/api/help", { on: !state.help.on });
    await data.poll();
  } catch (error) { toast(error.message, "bad"); }
}

function openPlayer(key) {
  if (!key) return;
  player.open(key);
  drawBar();
}

const GRID_KEYS = {
  ArrowLeft: (event) => gridView.move(-1, { extend: event.shiftKey }), ArrowRight: (event) => gridView.move(1, { extend: event.shiftKey }),
  ArrowUp: (event) => gridView.move(-grid.columns, { extend: event.shiftKey }), ArrowDown: (event) => gridView.move(grid.columns, { extend: event.shiftKey }),
  PageUp: () => gridView.move(-gridView.rowsPerPage()), PageDown: () => gridView.move(gridView.rowsPerPage()),
  Home: () => gridView.move(-grid.shown.length), End: () => gridView.move(grid.shown.length),
  Enter: () => openPlayer(grid.current), " ": () => openPlayer(grid.current), i: () => openPlayer(grid.current), o: () => openPlayer(grid.current),
};
const PLAYER_KEYS = {
  ArrowLeft: (event) => (event.shiftKey ? player.jump(-1) : player.step(-1)), ArrowRight: (event) => (event.shiftKey ? player.jump(1) : player.step(1)),
  ",": () => player.step(-1), ".": () => player.step(1), ArrowUp: () => advance(-1), ArrowDown: () => advance(1),
  " ": () => player.toggle(), l: () => player.toggleLoop(), "[": () => player.faster(-1), "]": () => player.faster(1),
  i: () => player.markIn(), o: () => player.markOut(), I: () => player.moveEdge("s"), O: () => player.moveEdge("e"),
  Delete: () => player.removePart(), Backspace: () => player.removePart(), Escape: () => player.close(), Enter: () => player.close(),
  Home: () => player.seek(player.current().s ?? 0),
};
const KEYS = {
  x: leaveOut, u: undo, y: accept, c: chooser, n: newClass, h: toggleHelp, r: () => recorder(state.classes, drawAll),
  t: () => trainPanel(), g: () => edit("g", "Group"), e: () => edit("n", "Note"), 0: () => label(""), "?": keysHelp, "/": () => byId("search").focus(),
};

function onKey(event) {
  const field = event.target.closest("input, textarea, select");
  if (byId("dialog").open) return;
  if (field) {
    if (event.key === "Escape" || (event.key === "Enter" && field.tagName === "INPUT")) { field.blur(); event.preventDefault(); }
    return;
  }
  if ((event.ctrlKey || event.metaKey) && !event.altKey) {
    const word = event.key.toLowerCase();
    const run = word === "z" ? (event.shiftKey ? redo : undo) : word === "y" ? redo : word === "a" && !player.player.open ? selectAll : null;
    if (run) { event.preventDefault(); run(); }
    return;
  }
  if (event.altKey) return;
  const own = player.player.open ? PLAYER_KEYS : GRID_KEYS;
  const key = event.key.length === 1 && !own[event.key] && !KEYS[event.key] ? event.key.toLowerCase() : event.key;
  const run = own[key] || KEYS[key];
  if (/^[1-9]$/.test(key)) {
    const name = state.classes[Number(key) - 1];
    if (name) label(name);
    else if (targets().length) chooser();
    event.preventDefault();
    return;
  }
  if (!run) return;
  // Else a button that has the focus would be pressed as well.
  event.preventDefault();
  if (event.target.closest("button")) event.target.blur();
  run(event);
}

function selectAll() {
  grid.shown.forEach((key) => grid.selected.add(key));
  gridView.draw();
  drawBar();
}

function drawAll() {
  drawTop();
  drawSide();
  drawBar();
  gridView.draw();
}

async function begin() {
  gridView.start();
  player.start();
  grid.onOpen = openPlayer;
  grid.onSelect = drawBar;
  player.player.onMove = advance;
  player.player.onClose = (key) => { if (state.byKey.has(key) && grid.shown.includes(key)) { gridView.choose(key); gridView.reveal(grid.shown.indexOf(key)); gridView.draw(); } drawBar(); };
  data.onChange((what) => {
    if (what === "all") showFiltered();
    if (what === "items") mergeItems();
    if (what === "advice") { if (["next", "wrong", "unsure", "copy"].includes(filter.view)) showFiltered({ keep: true }); }
    if (what === "pending") drawTop();
    else drawAll();
  });
  byId("search").addEventListener("input", (event) => { filter.text = event.target.value; showFiltered(); });
  byId("help").onclick = toggleHelp;
  byId("train").onclick = () => trainPanel();
  byId("record").onclick = () => recorder(state.classes, drawAll);
  byId("export").onclick = exportMenu;
  byId("keys").onclick = keysHelp;
  document.addEventListener("keydown", onKey);
  try {
    await data.load();
    performance.mark("shown");
    if (state.origin) toast(`Labels come from ${state.origin}; at the first change all are written to manifest.csv.`);
    data.startPolling();
  } catch (error) {
    add(byId("empty"), error.message);
    byId("empty").hidden = false;
  }
}

begin();
