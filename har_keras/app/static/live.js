// A camera in; the answer to its newest clip out. A clip is sent only when the
// one before it is answered: meanwhile old frames are dropped, none is queued.

import { find, inkOn, made, model, say, showBars, swatch } from "/common.js";

const known = await model();
const { frames: NUM_FRAMES, fps: FPS, short_side: SIDE } = known.clip;
const HOP_SECONDS = 0.5, LONGEST_SECONDS = 10, HISTORY_SECONDS = 60;
const camera = find("camera");
const canvas = document.createElement("canvas");
const session = () =>
  [...crypto.getRandomValues(new Uint8Array(16))]
    .map((x) => x.toString(16).padStart(2, "0")).join("");

let run = null;

find("legend").replaceChildren(
  ...known.classes.slice(0, 20).map((x) =>
    made("span", { className: "key" }, swatch(x.color), x.name)));

class Run {
  constructor(stream) {
    this.stream = stream;
    this.session = session();
    this.frames = []; // the newest, each a Promise of its JPEG and its time
    this.history = [];
    this.sending = false;
    this.done = this.skipped = 0;
    this.sent = performance.now();
    this.timer = setInterval(() => this.tick(), 1000 / FPS);
  }

  tick() {
    if (document.hidden || !camera.videoWidth) {
      this.frames = []; // a clip must have no gap
      return;
    }
    this.frames.push(picture());
    while (this.frames.length > NUM_FRAMES) this.frames.shift();
    const now = performance.now();
    const due = now - this.sent >= 1000 * HOP_SECONDS;
    if (this.frames.length < NUM_FRAMES || !due) return;
    this.sent = now;
    if (this.sending) this.count("skipped");
    else this.send();
  }

  async send() {
    this.sending = true;
    try {
      const frames = await Promise.all(this.frames);
      const taken = frames.at(-1).taken;
      const answer = await fetch(`/api/live?session=${this.session}`, {
        method: "POST",
        headers: { "Content-Type": "application/octet-stream" },
        body: body(frames.map((x) => x.jpeg)),
        signal: AbortSignal.timeout(1000 * LONGEST_SECONDS),
      });
      if (run !== this) return;
      if (answer.status === 429) this.count("skipped");
      else if (!answer.ok) stop((await answer.json()).error);
      else this.show(await answer.json(), performance.now() - taken);
    } catch {
      if (run === this)
        stop("The program gives no answer. Is it still running?");
    } finally {
      this.sending = false;
    }
  }

  count(what) {
    this[what] += 1;
    find(what).textContent = this[what];
  }

  show(found, delay) {
    say("");
    this.count("done");
    find("delay").textContent = `${(delay / 1000).toFixed(1)} s`;
    if (find("answer").textContent !== found.answer)
      find("answer").textContent = found.answer; // else it is read out again
    showBars(find("shares"), "Confidence of each class",
      known.classes.map((x, index) => ({
        label: x.name, color: x.color, share: found.shares[index],
      })));
    const best = found.shares.indexOf(Math.max(...found.shares));
    const named = known.classes.findIndex((x) => x.name === found.answer);
    const place = found.accepted ? (named < 0 ? best : named) : -1;
    this.remember(place, found.answer);
  }

  remember(place, label) {
    const now = performance.now() / 1000;
    const last = this.history.at(-1);
    if (last && last.place === place) last.end = now;
    else this.history.push({ place, label, begin: last?.end ?? now, end: now });
    const first = now - HISTORY_SECONDS;
    this.history = this.history.filter((x) => x.end > first);
    find("history").replaceChildren(
      ...this.history.map((x) => made("span", {
        className: x.place < 0 ? "none" : "", title: x.label,
        textContent: x.place < 0 ? "" : x.label,
        style: {
          flex: `${Math.max(0.1, x.end - Math.max(first, x.begin))} 1 0`,
          background: x.place < 0 ? "" : known.classes[x.place].color,
          color: x.place < 0 ? "" : inkOn(known.classes[x.place].color),
        },
      })));
  }

  close() {
    clearInterval(this.timer);
    for (const track of this.stream.getTracks()) track.stop();
  }
}

function picture() {
  const scale = Math.min(1, SIDE / Math.min(camera.videoWidth, camera.videoHeight));
  canvas.width = Math.round(camera.videoWidth * scale);
  canvas.height = Math.round(camera.videoHeight * scale);
  canvas.getContext("2d").drawImage(camera, 0, 0, canvas.width, canvas.height);
  const taken = performance.now();
  return new Promise((resolve) =>
    canvas.toBlob((jpeg) => resolve({ jpeg, taken }), "image/jpeg", 0.9));
}

function body(images) {
  return new Blob(images.flatMap((image) => {
    const length = new DataView(new ArrayBuffer(4));
    length.setUint32(0, image.size);
    return [length, image];
  }));
}

async function start() {
  say("");
  if (!navigator.mediaDevices) {
    say("Browsers give cameras only to pages of this machine or of https.");
    return;
  }
  try {
    const wanted = { width: { ideal: 640 }, height: { ideal: 480 } };
    const stream = await navigator.mediaDevices.getUserMedia({ video: wanted });
    camera.srcObject = stream;
    await camera.play();
    find("result").hidden = find("stop").hidden = false;
    find("start").hidden = true;
    for (const id of ["done", "skipped"]) find(id).textContent = "0";
    find("answer").textContent = "Waiting for the first clip …";
    run = new Run(stream);
    stream.getVideoTracks()[0].onended = () => stop("The camera was unplugged.");
    find("stop").focus();
  } catch (error) {
    say(error.name === "NotAllowedError"
      ? "The browser does not let this page use the camera. Allow it, and start again."
      : "No camera was found, or another program uses it.");
  }
}

function stop(sentence = "") {
  run?.close();
  run = null;
  say(sentence);
  find("stop").hidden = true;
  find("start").hidden = false;
}

find("start").onclick = start;
find("stop").onclick = () => stop();
