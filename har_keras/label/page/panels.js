// Dialogs: keys, the choice of a class, a line of text, training, export.

import { byId, fill, make, named, openDialog, percent, tint, toast } from "./dom.js";
import { onChange, post, state } from "./data.js";

const KEYS = [
  ["Name", [["1 – 9", "name the class"], ["c", "choose or make a class by typing"], ["n", "new class"], ["0", "clear the class"], ["y", "accept the suggestion"], ["x", "leave out, or use again"], ["u, Ctrl+Z", "undo"], ["Ctrl+Shift+Z", "redo"], ["g", "group"], ["e", "note"]]],
  ["Move", [["← → ↑ ↓", "move in the grid"], ["Shift + arrow", "select several"], ["Ctrl+A", "select all that is shown"], ["Enter, space", "open the player"], ["Esc", "back to the grid"], ["/", "search"]]],
  ["Player", [["space", "play, pause"], ["← →", "one frame"], ["Shift + ← →", "one second"], ["↑ ↓", "previous, next video"], ["[ ]", "slower, faster"], ["l", "loop"], ["Home", "to the start"]]],
  ["Cut", [["i", "a part starts here"], ["o", "it ends here"], ["Shift+I, Shift+O", "move start or end of the part"], ["Delete", "remove the part"]]],
  ["Work", [["h", "suggestions"], ["t", "train"], ["r", "record"], ["?", "these keys"]]],
];

export function keysHelp() {
  openDialog("Keys", make("div.keylist", {}, KEYS.map(([title, keys]) =>
    make("section", {}, make("h3", {}, title), make("dl", {}, keys.map(([key, words]) => [make("dt", {}, key.split(/(, | \+ )/).map((one) => (/^(, | \+ )$/.test(one) ? one : make("kbd", {}, one)))), make("dd", {}, words)]))))));
}

export function prompt(title, value, run, { blank = false } = {}) {
  const input = make("input", { value, dir: "auto", autocomplete: "off", ariaLabel: title, maxLength: title === "Note" ? 2000 : 100 });
  const form = make("form", { method: "dialog", onsubmit: () => { const text = input.value.trim(); if (text || blank) run(text); } },
    input, make("div.buttons", {}, make("button.primary", {}, "Save")));
  openDialog(title, form);
  input.focus();
  input.select();
}

/** Finds a class by typing; one that is not there is made. */
export function chooseClass(classes, run) {
  const input = make("input", { placeholder: "Type a class", dir: "auto", autocomplete: "off", ariaLabel: "Class", maxLength: 100 });
  const list = make("div.options", { role: "listbox" });
  let at = 0, options = [];
  const dialog = openDialog("Class", input, list);
  const take = (name) => { dialog.close(); run(name); };
  const draw = () => {
    const text = input.value.trim(), small = text.toLowerCase();
    options = classes.filter((name) => name.toLowerCase().includes(small));
    if (text && !classes.some((name) => name.toLowerCase() === small)) options.push(text);
    at = Math.max(0, Math.min(at, options.length - 1));
    fill(list, options.map((name, place) => {
      const known = classes.indexOf(name);
      const button = make("button.option", { type: "button", role: "option", onclick: () => take(name) },
        known >= 0 ? make(`i.dot.${tint(known)}`) : make("span.dim", {}, "New:"), named(name));
      button.ariaSelected = String(place === at);
      return button;
    }));
  };
  input.addEventListener("input", () => { at = 0; draw(); });
  input.addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (by) { at += by; draw(); event.preventDefault(); }
    if (event.key === "Enter") { event.preventDefault(); if (options[at]) take(options[at]); }
  });
  draw();
  input.focus();
}

const FORMATS = [
  ["manifest", "manifest.csv", "Labels only, for training elsewhere"],
  ["label-studio", "Label Studio", "Tasks to import, with local files"],
  ["cvat", "CVAT", "CVAT for video 1.1, one file for each video"],
  ["elan", "ELAN", "One document for each video"],
  ["fiftyone", "FiftyOne", "Temporal detections"],
];

export function exportMenu() {
  openDialog("Export the labels", make("div.options", {}, FORMATS.map(([format, name, words]) =>
    make("button.option.tall", { type: "button", onclick: () => download(format) }, make("strong", {}, name), make("span.dim", {}, words)))),
  make("p.dim", {}, "Annotations of these programs are read, too: put them into the folder before its first manifest.csv."));
}

async function download(format) {
  try {
    const answer = await fetch(`/api/export/${format}`);
    if (!answer.ok) throw new Error((await answer.json()).error);
    const name = /filename="([^"]+)"/.exec(answer.headers.get("content-disposition") || "")?.[1] || format;
    const link = make("a", { href: URL.createObjectURL(await answer.blob()), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    byId("dialog").close();
  } catch (error) { toast(error.message, "bad"); }
}

let drawTraining = null;
onChange((what) => { if (what === "news" && byId("dialog").open && drawTraining) drawTraining(); });

export function trainPanel() {
  const body = make("div.training");
  const dialog = openDialog("Train", body);
  drawTraining = () => paintTraining(body);
  dialog.addEventListener("close", () => { drawTraining = null; }, { once: true });
  drawTraining();
}

async function act(what) {
  try {
    state.training = await post("/api/train", what);
    drawTraining?.();
  } catch (error) { toast(error.message, "bad"); }
}

function paintTraining(body) {
  const found = state.training;
  const per = new Map();
  state.items.forEach((row) => { if (row.c && !row.x) per.set(row.c, (per.get(row.c) || 0) + 1); });
  const running = found.state === "running";
  const meter = make("progress", { max: 1, ariaLabel: "Progress" });
  if (found.fraction !== null && found.fraction !== undefined) meter.value = found.fraction;
  const words = { done: "Done.", failed: "It failed.", stopped: "Stopped." }[found.state] || "";
  fill(body,
    make("p", {}, "Trains on the labels of this moment, in a process of its own. It goes on when this page is closed."),
    make("ul.tally", {}, [...per].map(([name, number]) => make("li", {}, make(`i.dot.${tint(state.classes.indexOf(name))}`), named(name), make("span.count", {}, number)))),
    per.size < 2 && make("p.advice.warn", {}, "A model needs videos of two classes."),
    found.state !== "none" && make("div.status", {}, running && meter, make("p", {}, words && make("strong", {}, `${words} `), named(found.text)), found.run && make("p.dim", {}, named(found.run))),
    found.accuracy !== null && found.accuracy !== undefined && make("p.figure", {}, make("strong", {}, percent(found.accuracy)), ` right, on ${found.num_test} test videos`),
    make("div.buttons", {},
      found.state === "done" && make("a.button", { href: "/report", target: "_blank", rel: "noopener" }, "Report"),
      found.state === "done" && !state.help.on && make("button", { type: "button", onclick: () => post("/api/help", { on: true }) }, "Show its answers"),
      found.resumable && !running && make("button", { type: "button", onclick: () => act({ resume: true }) }, "Go on"),
      running ? make("button", { type: "button", onclick: () => act({ stop: true }) }, "Stop") :
        make("button.primary", { type: "button", disabled: per.size < 2, onclick: () => act({}) }, found.state === "none" ? "Train" : "Train anew")));
}
