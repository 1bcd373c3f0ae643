// The player: frame by frame, at any speed, round and round; and the parts
// that a video is cut into. A file that the browser can't play comes in
// pieces that the server encodes when they are wanted.

import { byId, clock, fill, icon, make, named, percent, tint, toast } from "./dom.js";
import { blank, change, header, isPart, onChange, partsOf, state } from "./data.js";
import { pictureUrl } from "./grid.js";

const SPEEDS = [0.1, 0.25, 0.5, 1, 1.5, 2, 4, 8];
const DETAIL_FROM = 90, DETAIL_SECONDS = 30;

const box = byId("player");
export const player = { key: "", open: false, onMove: () => {}, onClose: () => {} };

let known = null, pieces = false, piece = -1, mark = null, wanted = 0;
let speed = 1, loops = true, token = 0, dragging = false, length = 0;

const video = make("video", { playsInline: true, muted: true, preload: "auto" });
video.disablePictureInPicture = true;
const fault = make("p.fault", { hidden: true });
const wait = make("p.wait", { hidden: true }, "Preparing a copy that the browser can play …");
const stage = make("div.stage", {}, video, fault, wait);
const time = make("output.clock", { ariaLabel: "Time" });
const track = newTrack("whole"), detail = newTrack("detail");
const playButton = tool(icon("play"), "Play or pause (space)", toggle);
const loopButton = tool(icon("loop"), "Loop (l)", toggleLoop);
const speedBox = make("select", { ariaLabel: "Speed", title: "Speed ([ and ])", onchange: () => setSpeed(Number(speedBox.value)) },
  SPEEDS.map((one) => make("option", { value: one }, `${one}×`)));
const side = make("div.details");
const title = make("div.title");

export function start() {
  fill(box,
    make("div.watch", {},
      make("div.headline", {}, tool(icon("left"), "Back to the grid (Esc)", close), title,
        make("span.spread"), tool(icon("up"), "Previous video (↑)", () => player.onMove(-1)), tool(icon("down"), "Next video (↓)", () => player.onMove(1))),
      stage,
      make("div.tracks", {}, track.element, detail.element),
      make("div.controls", {},
        tool(icon("back"), "One frame back (←)", () => step(-1)), playButton, tool(icon("on"), "One frame on (→)", () => step(1)),
        loopButton, speedBox, time, make("span.spread"),
        tool([make("kbd", {}, "i"), "Start"], "The part starts here (i)", markIn, "wide"), tool([make("kbd", {}, "o"), "End"], "The part ends here (o)", markOut, "wide"))),
    side);
  setSpeed(1);
  loopButton.ariaPressed = "true";
  video.addEventListener("loadedmetadata", begun);
  video.addEventListener("error", broken);
  video.addEventListener("ended", ended);
  video.addEventListener("play", () => { fill(playButton, icon("pause")); tick(); });
  video.addEventListener("pause", () => { fill(playButton, icon("play")); });
  video.addEventListener("seeked", paint);
  onChange((what) => { if (player.open && what !== "pending") refresh(); });
}

function tool(text, words, run, kind = "") {
  return make(`button${kind ? `.${kind}` : ".square"}`, { type: "button", title: words, ariaLabel: words, onclick: run }, text);
}

export const current = () => state.byKey.get(player.key);

export async function open(key) {
  const row = state.byKey.get(key);
  if (!row) return;
  const sameFile = player.open && current()?.v === row.v;
  player.key = key;
  mark = null;
  box.hidden = false;
  document.body.classList.add("watching");
  player.open = true;
  if (sameFile) {
    seek(row.s ?? 0);
    refresh();
    return;
  }
  const mine = ++token;
  stop();
  length = 0;
  known = null;
  refresh();
  const found = await header(row.v);
  if (mine !== token) return;
  known = found;
  length = found.seconds;
  fault.hidden = !found.fault;
  video.hidden = Boolean(found.fault);
  fill(fault, "This video can't be shown: ", found.fault, ". It can be left out with x.");
  pieces = !found.playable;
  piece = -1;
  wanted = row.s ?? 0;
  track.strip(`url("/pictures/${row.v}")`);
  if (!found.fault) source();
  refresh();
}

function source() {
  const { v } = current();
  if (!pieces) {
    video.src = `/video/${v}`;
    return;
  }
  const number = Math.max(0, Math.floor(wanted / known.piece));
  if (number === piece) { video.currentTime = wanted - offset(); return; }
  piece = number;
  wait.hidden = false;
  video.src = `/piece/${v}/${number}`;
}

const offset = () => (pieces ? Math.max(0, piece) * (known?.piece || 30) : 0);
const now = () => offset() + (video.currentTime || 0);

function begun() {
  wait.hidden = true;
  video.playbackRate = speed;
  if (!pieces && Number.isFinite(video.duration)) length = Math.max(video.duration, 0);
  if (pieces && !known.seconds) length = Math.max(length, offset() + video.duration);
  video.currentTime = Math.min(Math.max(0, wanted - offset()), Math.max(0, video.duration - 0.001) || 0);
  video.play().catch(() => {});
  refresh();
}

function broken() {
  if (!player.open || !video.getAttribute("src")) return;
  if (!pieces) { // what this browser can't play
    pieces = true;
    piece = -1;
    source();
    return;
  }
  wait.hidden = true;
  if (piece > 0) { // the header said more than there is
    length = offset();
    wanted = 0;
    piece = -1;
    source();
    return;
  }
  video.hidden = true;
  fault.hidden = false;
  fill(fault, "This video can't be shown: nothing of it can be decoded.");
}

function ended() {
  const next = offset() + (known?.piece || 30);
  if (pieces && video.duration > known.piece - 0.5 && next < length) { wanted = next; source(); return; }
  if (loops) { seek(current().s ?? 0); video.play().catch(() => {}); }
}

function stop() {
  video.pause();
  video.removeAttribute("src");
  video.load();
}

export function close() {
  if (!player.open) return;
  token += 1;
  player.open = false;
  mark = null;
  stop();
  box.hidden = true;
  document.body.classList.remove("watching");
  player.onClose(player.key);
}

export function seek(to) {
  wanted = Math.max(0, Math.min(to, Math.max(0, (length || to) - 0.001)));
  if (pieces && Math.floor(wanted / known.piece) !== piece) source();
  else video.currentTime = wanted - offset();
  paint();
}

export function toggle() {
  if (video.paused) video.play().catch(() => {});
  else video.pause();
}

const fps = () => known?.fps || 25;
const frameOf = (seconds) => Math.floor(seconds * fps() + 0.01);

export function step(by) {
  video.pause();
  seek((frameOf(now()) + by + 0.5) / fps());
}

export const jump = (by) => seek(now() + by);

export function setSpeed(value) {
  speed = value;
  video.playbackRate = value;
  video.defaultPlaybackRate = value;
  speedBox.value = String(value);
}

export const faster = (by) => setSpeed(SPEEDS[Math.max(0, Math.min(SPEEDS.length - 1, SPEEDS.indexOf(speed) + by))]);

export function toggleLoop() {
  loops = !loops;
  loopButton.ariaPressed = String(loops);
}

const round = (seconds) => Math.round(seconds * 1000) / 1000;

export function markIn() {
  mark = round(frameOf(now()) / fps());
  paint();
}

/** Makes a part that ends with the frame that is shown. */
export async function markOut() {
  const row = current();
  let end = round((frameOf(now()) + 1) / fps());
  if (known?.seconds && !pieces) end = Math.min(end, round(length)) || end;
  const others = partsOf(row.v).filter(isPart);
  const before = others.map((part) => part.e ?? 0).filter((e) => e <= end - 1 / fps());
  const begin = mark ?? Math.max(0, ...before);
  if (begin >= end) { toast("A part must start before it ends.", "bad"); return; }
  const whole = partsOf(row.v).find((one) => !isPart(one));
  const part = blank(row.v, begin, end);
  const keep = whole ? { c: whole.c, n: whole.n } : { c: "" };
  const changes = [{ row: part, set: { ...keep, g: row.g, p: row.p } }];
  // After the part, which then stands in its place.
  if (whole && state.rows.has(whole.key)) changes.push({ row: whole, set: null });
  mark = null;
  if (await change(changes, `part ${clock(begin, 1)} – ${clock(end, 1)}`)) {
    player.key = part.key;
    refresh();
  }
}

/** Moves the start or the end of the part to the frame that is shown. */
export async function moveEdge(name) {
  const row = current();
  if (!isPart(row)) { toast("Mark a part first: i where it starts, o where it ends."); return; }
  const at = round((frameOf(now()) + (name === "e" ? 1 : 0)) / fps());
  const moved = { s: row.s, e: row.e, [name]: at };
  if ((moved.s ?? 0) >= (moved.e ?? Infinity)) { toast("A part must start before it ends.", "bad"); return; }
  if (await change([{ row, set: { s: moved.s, e: moved.e } }], "times of a part")) {
    player.key = blank(row.v, moved.s, moved.e).key;
    refresh();
  }
}

export async function removePart() {
  const row = current();
  if (!isPart(row)) return;
  const rest = partsOf(row.v).filter((one) => one.key !== row.key);
  if (await change([{ row, set: null }], `remove part ${clock(row.s ?? 0, 1)}`)) {
    player.key = (rest[0] || blank(row.v)).key;
    refresh();
  }
}

function tick() {
  if (!player.open || video.paused) return;
  const row = current();
  if (loops && row && isPart(row) && row.e !== null && now() >= row.e - 0.5 / fps()) seek(row.s ?? 0);
  paint();
  if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(tick);
  else requestAnimationFrame(tick);
}

function newTrack(kind) {
  const strip = make("div.strip"), spans = make("div.spans"), head = make("i.playhead"), begin = make("i.mark", { hidden: true });
  const element = make(`div.track.${kind}`, { title: "Click or drag to go there" }, strip, spans, begin, head);
  const one = { element, from: 0, to: 1, strip: (url) => { strip.style.backgroundImage = url; }, spans, head, begin };
  const go = (event) => {
    const rect = element.getBoundingClientRect();
    seek(one.from + Math.max(0, Math.min(1, (event.clientX - rect.left) / rect.width)) * (one.to - one.from));
  };
  element.addEventListener("pointerdown", (event) => { dragging = true; element.setPointerCapture(event.pointerId); video.pause(); go(event); });
  element.addEventListener("pointermove", (event) => { if (dragging && element.hasPointerCapture(event.pointerId)) go(event); });
  element.addEventListener("pointerup", () => { dragging = false; });
  return one;
}

function paint() {
  const at = now(), row = current();
  if (!row) return;
  time.textContent = `${clock(at, 2)} / ${clock(length, 2)}  ·  frame ${frameOf(at)}`;
  place(track, 0, length || 1, at);
  detail.element.hidden = length < DETAIL_FROM;
  if (!detail.element.hidden) {
    const from = dragging ? detail.from : Math.max(0, Math.min(at - DETAIL_SECONDS / 2, length - DETAIL_SECONDS));
    const moved = Math.abs(from - detail.from) > 0.02;
    place(detail, from, from + DETAIL_SECONDS, at);
    if (moved) drawSpans(detail);
  }
}

const share = (one, at) => `${Math.max(0, Math.min(100, (100 * (at - one.from)) / (one.to - one.from)))}%`;

function place(one, from, to, at) {
  one.from = from;
  one.to = to;
  one.head.style.left = share(one, at);
  one.begin.hidden = mark === null || mark < from || mark > to;
  if (mark !== null) one.begin.style.left = share(one, mark);
}

function drawSpans(one) {
  const row = current();
  fill(one.spans, partsOf(row.v).filter(isPart).map((part) => {
    const begin = part.s ?? 0, end = part.e ?? (length || begin);
    if (end < one.from || begin > one.to) return null;
    const span = make(`span.span.${part.c ? tint(state.classes.indexOf(part.c)) : "none"}`, { title: part.c || "no class" }, named(part.c || ""));
    span.classList.toggle("current", part.key === row.key);
    span.classList.toggle("out", part.x);
    span.style.left = share(one, begin);
    span.style.width = `calc(${share(one, end)} - ${share(one, begin)})`;
    return span;
  }));
}

function refresh() {
  let row = current();
  if (!row && player.open) { // changed elsewhere: another part of the video
    const v = player.key.split("|")[0], rest = partsOf(v);
    if (!rest.length) { close(); return; }
    player.key = rest[0].key;
    row = rest[0];
  }
  if (!row) return;
  fill(title, named(row.name, "strong"), make("span.dim", {}, known?.what || ""));
  paint();
  drawSpans(track);
  drawSpans(detail);
  if (!side.contains(document.activeElement) || document.activeElement.tagName === "BUTTON") details(row);
}

function details(row) {
  const parts = partsOf(row.v).filter(isPart);
  const likely = state.advice.likely.get(row.key), wrong = state.advice.wrong.get(row.key);
  const field = (name, label, key, tag) => make("label.field", {}, make("span", {}, label, make("kbd", {}, key)),
    make(tag, { value: row[name], dir: "auto", id: `field-${name}`, maxLength: name === "n" ? 2000 : 100, rows: 2,
      onchange: (event) => change([{ row: current(), set: { [name]: event.target.value } }], label.toLowerCase()) }));
  fill(side,
    make("h2", {}, isPart(row) ? `Part ${clock(row.s ?? 0, 2)} – ${row.e === null ? "end" : clock(row.e, 2)}` : "Whole video"),
    make("p.is", {}, row.c ? make(`span.pill.${tint(state.classes.indexOf(row.c))}`, {}, named(row.c)) : make("span.pill.none", {}, "no class"),
      row.x && make("span.badge.warn", {}, "left out"), row.b && make("span.dim", {}, "by ", named(row.b))),
    !row.c && likely && make("p.advice", {}, "Likely ", named(likely[0], "strong"), ` ${percent(likely[1])}`, make("kbd", {}, "y")),
    row.c && wrong && make("p.advice.warn", {}, "Looks like ", named(wrong[0], "strong"), ` ${percent(wrong[1])}`, make("kbd", {}, "y")),
    field("g", "Group", "g", "input"), field("n", "Note", "e", "textarea"),
    parts.length > 0 && make("h2", {}, parts.length === 1 ? "1 part" : `${parts.length} parts`),
    parts.length > 0 && make("ol.parts", {}, parts.map((part) => {
      const button = make("button", { type: "button", onclick: () => open(part.key) },
        make("span", {}, `${clock(part.s ?? 0, 1)} – ${part.e === null ? "end" : clock(part.e, 1)}`),
        part.c ? make(`span.pill.${tint(state.classes.indexOf(part.c))}`, {}, named(part.c)) : make("span.pill.none", {}, "no class"));
      button.ariaCurrent = String(part.key === row.key);
      return make("li", {}, button);
    })),
    parts.length === 0 && make("p.dim.hint", {}, "To cut it into parts: ", make("kbd", {}, "i"), " where one starts, ", make("kbd", {}, "o"), " where it ends."),
    isPart(row) && make("div.edges", {},
      make("button", { type: "button", title: "Shift+I", onclick: () => moveEdge("s") }, "Start here"),
      make("button", { type: "button", title: "Shift+O", onclick: () => moveEdge("e") }, "End here"),
      make("button", { type: "button", title: "Delete", onclick: removePart }, "Remove part")));
}

export const warm = (key) => { // what comes next
  const row = state.byKey.get(key);
  if (row) header(row.v).then((found) => { if (!found.fault) new Image().src = pictureUrl(row, found); });
};
