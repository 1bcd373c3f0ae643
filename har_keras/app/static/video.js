// A video in; its progress, one answer, timeline and files out.

import { find, made, model, say, showBars } from "/common.js";
import { Timeline } from "/timeline.js";

const known = await model();
const player = find("player");
const PATIENCE_MS = 5000;
let request = null, timeline = null, patience = null, kept = [];

find("limits").textContent =
  `Or drop it here. Videos of ${known.limits} are accepted, also in formats ` +
  "that the browser can't play. They are deleted as soon as they are classified.";
find("wants-attention").hidden = !known.attention;

// Addresses of files in memory, which are given back for the next video.
function address(blob) {
  kept.push(URL.createObjectURL(blob));
  return kept.at(-1);
}

function busy(on) {
  find("busy").hidden = !on;
  for (const id of ["choose", "example"]) find(id).disabled = on;
  if (!on) request = null;
}

function progress(event) {
  const bar = find("bar");
  find("phase").textContent = event.phase;
  if (event.share === null) bar.removeAttribute("value");
  else bar.value = event.share;
  const left = event.seconds_left;
  find("left").textContent =
    left === null ? "" : `about ${Math.max(1, Math.round(left))} s left`;
}

function send(file) {
  say("");
  find("result").hidden = find("looks").hidden = true;
  for (const url of kept) URL.revokeObjectURL(url);
  kept = [];
  timeline = null;
  if (file.size > known.max_bytes) {
    say(`A video may have ${known.limits}. This one has ` +
        `${Math.ceil(file.size / 1e6)} MB.`);
    return;
  }
  busy(true);
  progress({ phase: "Sending the video", share: null, seconds_left: null });
  const form = new FormData();
  form.append("video", file, file.name);
  const wants = find("attention").checked && known.attention;
  const mine = (request = new XMLHttpRequest());
  let place = 0, whole = false;
  const read = () => {
    if (mine.status !== 200) return;
    for (;;) {
      const end = mine.responseText.indexOf("\n", place);
      if (end < 0) return;
      const event = JSON.parse(mine.responseText.slice(place, end));
      place = end + 1;
      whole = event.event !== "progress" || whole;
      take(event, file);
    }
  };
  mine.upload.onprogress = (sent) => {
    if (sent.lengthComputable)
      progress({ phase: "Sending the video", share: sent.loaded / sent.total,
                 seconds_left: null });
  };
  mine.onprogress = read;
  mine.onload = () => {
    read();
    if (mine.status !== 200) say(reason(mine));
    else if (!whole) say("The program ended before it had an answer.");
    busy(false);
  };
  mine.onerror = () => {
    say("The program can't be reached. Is it still running?");
    busy(false);
  };
  mine.onabort = () => busy(false);
  mine.open("POST", `/api/videos?attention=${wants}`);
  mine.send(form);
}

function reason(answer) {
  try {
    return JSON.parse(answer.responseText).error;
  } catch {
    return `The program failed with status ${answer.status}.`;
  }
}

function take(event, file) {
  if (event.event === "progress") progress(event);
  else if (event.event === "error") say(event.sentence);
  else if (event.event === "answer") show(event, file);
  else if (event.event === "attention") {
    const bytes = Uint8Array.from(atob(event.mp4), (x) => x.charCodeAt(0));
    find("movie").src = address(new Blob([bytes], { type: "video/mp4" }));
    find("looks").hidden = false;
  }
}

function show(answer, file) {
  find("video-name").textContent = file.name;
  find("answer").textContent = answer.answer;
  find("words").textContent = answer.words;
  showBars(find("shares"), "Share of the time", answer.times.map((x) => ({
    ...x, color: x.class < 0 ? "var(--none)" : known.classes[x.class].color,
  })));
  find("result").hidden = false;
  timeline = new Timeline(answer, known.classes, seek);
  playable();
  player.src = address(file);
  // A player that is busy may never say that it can't play a file.
  clearTimeout(patience);
  patience = setTimeout(() => {
    if (!player.videoWidth) unplayable();
  }, PATIENCE_MS);
  const base = file.name.replace(/\.[^.]*$/, "") || "video";
  const kinds = { csv: "text/csv", json: "application/json",
                  srt: "application/x-subrip", vtt: "text/vtt" };
  find("downloads").replaceChildren(
    ...Object.entries(answer.files).map(([kind, text]) =>
      made("a", {
        className: "button", textContent: kind.toUpperCase(),
        href: address(new Blob([text], { type: kinds[kind] })),
        download: `${base}.${kind}`,
      })));
}

function seek(seconds) {
  if (player.hidden) find("still").src = timeline.picture(seconds);
  else player.currentTime = seconds;
}

function playable() {
  player.hidden = false;
  find("unplayable").hidden = true;
}

function unplayable() {
  if (!timeline) return;
  player.hidden = true;
  find("unplayable").hidden = false;
  find("still").alt = "A frame of the video";
  find("still").src = timeline.picture(0);
}

player.addEventListener("error", unplayable);
player.addEventListener("loadedmetadata", () => {
  if (player.videoWidth) playable();
  else unplayable();
});
player.addEventListener("timeupdate", () => timeline?.moveTo(player.currentTime));

find("choose").onclick = () => find("file").click();
find("file").onchange = (event) => {
  if (event.target.files.length) send(event.target.files[0]);
  event.target.value = "";
};
find("example").onclick = async () => {
  busy(true);
  say("");
  progress({ phase: "Drawing the example", share: null, seconds_left: null });
  try {
    const answer = await fetch("/example.mp4");
    if (!answer.ok) throw new Error();
    const type = "video/mp4";
    send(new File([await answer.blob()], "drawn-example.mp4", { type }));
  } catch {
    busy(false);
    say("The example can't be drawn. The terminal of the program has the reason.");
  }
};
find("cancel").onclick = () => (request ? request.abort() : busy(false));

const drop = find("drop");
const over = (on) => (event) => {
  event.preventDefault();
  drop.classList.toggle("over", on);
};
drop.addEventListener("dragover", over(true));
drop.addEventListener("dragleave", over(false));
drop.addEventListener("drop", (event) => {
  over(false)(event);
  const file = event.dataTransfer.files[0];
  if (file && !request) send(file);
});
