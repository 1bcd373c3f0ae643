// What the page knows: videos, rows, classes and suggestions. A change counts
// when the server says that it is on the disk, and not before.

import { toast } from "./dom.js";

export const state = {
  videos: new Map(), // number -> name
  rows: new Map(), // key -> row
  items: [], // what the grid can show, in order
  byKey: new Map(),
  classes: [],
  revision: 0,
  number: 0,
  fault: "",
  training: { state: "none" },
  help: { on: false, state: "off", number: 0 },
  advice: { number: 0, likely: new Map(), next: [], wrong: new Map(), copies: new Map() },
  by: "",
  pending: 0,
};

const listeners = new Set();
export const onChange = (run) => listeners.add(run);
const tell = (what) => listeners.forEach((run) => run(what));

export const keyOf = (v, s, e) => `${v}|${s ?? ""}|${e ?? ""}`;
export const isPart = (row) => row.s !== null || row.e !== null;

export async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The server doesn't answer. Is it still running?");
  }
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    const error = new Error(found.error || `The server answered ${answer.status}.`);
    error.conflict = answer.status === 409;
    throw error;
  }
  return found;
}

export const post = (path, body) =>
  ask(path, { method: "POST", headers: { "X-Har-Keras": "1", "Content-Type": "application/json" }, body: JSON.stringify(body) });

export async function load() {
  const found = await ask("/api/state");
  state.by = found.by;
  state.folder = found.folder;
  state.path = found.path;
  state.videos = new Map(found.videos);
  state.rows = new Map(found.rows.map((row) => [keyOf(row.v, row.s, row.e), row]));
  takeNews(found);
  rebuild();
  tell("all");
  if (found.help.number) await loadAdvice();
}

function takeNews(found) {
  state.revision = found.revision;
  state.number = found.number ?? state.number;
  state.classes = found.classes;
  state.fault = found.fault;
  state.origin = found.origin;
  state.saved = found.saved;
  state.training = found.training;
  state.help = found.help;
}

/** Takes what a server said of rows that were changed, by whomever. */
function takeChanges(found) {
  const moved = Boolean(found.videos) || found.gone.length > 0 ||
    found.rows.some((row) => !state.byKey.has(keyOf(row.v, row.s, row.e)));
  if (found.videos) state.videos = new Map(found.videos);
  for (const [v, s, e] of found.gone) state.rows.delete(keyOf(v, s, e));
  for (const row of found.rows) state.rows.set(keyOf(row.v, row.s, row.e), row);
  const before = JSON.stringify([state.classes, state.fault, state.training, state.help, state.origin]);
  takeNews(found);
  const after = JSON.stringify([state.classes, state.fault, state.training, state.help, state.origin]);
  if (moved || found.rows.length || found.gone.length) rebuild();
  if (moved) tell("items");
  else if (found.rows.length) tell("rows");
  if (before !== after) tell("news");
  if (state.help.number !== state.advice.number) loadAdvice();
}

/** Makes the list of what can be shown: rows, and videos that have none. */
function rebuild() {
  const of = new Map();
  for (const row of state.rows.values()) {
    if (!of.has(row.v)) of.set(row.v, []);
    of.get(row.v).push(row);
  }
  const items = [];
  const names = [...state.videos.entries()].sort((a, b) => (a[1] < b[1] ? -1 : a[1] > b[1] ? 1 : 0));
  for (const [v, name] of names) {
    const rows = (of.get(v) || [blank(v)]).sort((a, b) => (a.s ?? 0) - (b.s ?? 0));
    for (const row of rows) {
      row.name = name;
      row.key = keyOf(row.v, row.s, row.e);
      items.push(row);
    }
  }
  state.items = items;
  state.byKey = new Map(items.map((row) => [row.key, row]));
}

export const blank = (v, s = null, e = null) =>
  ({ v, s, e, c: "", g: "", p: "", n: "", b: "", x: false, r: "", name: state.videos.get(v) || "", key: keyOf(v, s, e) });

export const partsOf = (v) => state.items.filter((row) => row.v === v);

async function loadAdvice() {
  const wanted = state.help.number;
  if (loadAdvice.busy === wanted) return;
  loadAdvice.busy = wanted;
  try {
    const found = await ask("/api/help");
    const keys = found.samples.map(([v, s, e]) => keyOf(v, s, e));
    const advice = { number: found.number, likely: new Map(), next: [], wrong: new Map(), copies: new Map() };
    (found.likely || []).forEach((pair, i) => pair && advice.likely.set(keys[i], pair));
    advice.next = (found.next || []).map((i) => keys[i]);
    (found.wrong || []).forEach(([i, name, share]) => advice.wrong.set(keys[i], [name, share]));
    (found.copies || []).forEach(([i, j]) => {
      for (const [one, other] of [[i, j], [j, i]]) {
        if (!advice.copies.has(keys[one])) advice.copies.set(keys[one], []);
        advice.copies.get(keys[one]).push(keys[other]);
      }
    });
    state.advice = advice;
    tell("advice");
  } catch (error) {
    toast(error.message, "bad");
  } finally {
    loadAdvice.busy = 0;
  }
}

// Changes go one after the other: the next may build on what the last made.
let turn = Promise.resolve();
const done = [], undone = [];
export const history = { done, undone };

/** Sends changes, [{row, set}]; a set of null removes the row. */
export function change(changes, words) {
  const run = turn.then(() => send(changes, words, done, true));
  turn = run.catch(() => {});
  return run;
}

const fields = (row) => ({ c: row.c, g: row.g, p: row.p, n: row.n, x: row.x, s: row.s, e: row.e, b: row.b });

async function send(changes, words, stack, isNew) {
  const before = changes.map(({ row, set }) => {
    const now = state.byKey.get(row.key) || row;
    return { old: { ...now }, existed: state.rows.has(row.key), set };
  });
  const body = before.map(({ old, existed, set }) =>
    ({ v: old.v, s: old.s, e: old.e, r: existed ? old.r : "", set }));
  state.pending += 1;
  tell("pending");
  try {
    const found = await post("/api/labels", { changes: body, since: state.revision, number: state.number });
    stack.push({ words, inverse: before.map(inverse).reverse() });
    if (stack.length > 200) stack.shift();
    if (isNew) undone.length = 0;
    takeChanges(found);
    return true;
  } catch (error) {
    toast(error.message, "bad");
    await poll();
    return false;
  } finally {
    state.pending -= 1;
    tell("pending");
  }
}

function inverse({ old, existed, set }) {
  if (set === null) return { row: blank(old.v, old.s, old.e), set: fields(old) };
  const s = set.s !== undefined ? set.s : old.s, e = set.e !== undefined ? set.e : old.e;
  const row = blank(old.v, s, e);
  return { row, set: existed ? fields(old) : null };
}

async function back(from, to, word) {
  const last = from.pop();
  if (!last) {
    toast(`Nothing to ${word}.`);
    return null;
  }
  const fine = await send(last.inverse, last.words, to, false);
  if (!fine) return null;
  toast(`${word === "undo" ? "Undone" : "Done again"}: ${last.words}`);
  return last.inverse[0].row.v;
}

const queued = (run) => {
  const next = turn.then(run);
  turn = next.catch(() => {});
  return next;
};
export const undo = () => queued(() => back(done, undone, "undo"));
export const redo = () => queued(() => back(undone, done, "redo"));

export async function poll() {
  try {
    takeChanges(await ask(`/api/changes?since=${state.revision}&number=${state.number}`));
    if (state.lost) { state.lost = false; tell("news"); }
  } catch {
    if (!state.lost) { state.lost = true; tell("news"); }
  }
}

export function startPolling() {
  const again = async () => {
    if (!state.pending) await poll();
    setTimeout(again, document.hidden ? 8000 : 1500);
  };
  setTimeout(again, 1500);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });
}

const headers = new Map();
/** Returns what is known of a video's file; asked for once. */
export function header(v) {
  if (!headers.has(v)) {
    headers.set(v, ask(`/api/header/${v}`).catch((error) => {
      headers.delete(v);
      return { seconds: 0, fps: 25, fault: error.message };
    }));
  }
  return headers.get(v);
}
