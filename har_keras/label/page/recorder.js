// Records from the camera, straight into a class.

import { fill, make, openDialog, toast } from "./dom.js";
import { ask, poll } from "./data.js";

const TYPES = ["video/webm;codecs=vp9", "video/webm;codecs=vp8", "video/webm", "video/mp4"];

export async function recorder(classes, drawn) {
  const view = make("video.camera", { muted: true, playsInline: true, autoplay: true });
  const over = make("div.countdown", { hidden: true });
  const name = make("input", { dir: "auto", autocomplete: "off", value: classes[0] || "", ariaLabel: "Class", maxLength: 100, id: "record-class" });
  name.setAttribute("list", "record-classes");
  const list = make("datalist", { id: "record-classes" }, classes.map((one) => make("option", { value: one })));
  const seconds = make("select", { ariaLabel: "Length" }, [2, 3, 5, 10, 20, 30, 60].map((one) => make("option", { value: one, selected: one === 5 }, `${one} s`)));
  const sound = make("input", { type: "checkbox" });
  const go = make("button.primary", { type: "button", disabled: true }, "Record");
  const said = make("p.dim", {}, "Asking for the camera …");
  const dialog = openDialog("Record", make("div.camera", {}, view, over),
    make("div.form", {}, make("label.field", {}, make("span", {}, "Class"), name, list), make("label.field", {}, make("span", {}, "Length"), seconds),
      make("label.check", {}, sound, " with sound")),
    said, make("div.buttons", {}, go));
  let stream = null, busy = false, closed = false;
  const end = () => { closed = true; stream?.getTracks().forEach((track) => track.stop()); };
  dialog.addEventListener("close", end, { once: true });
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 }, height: { ideal: 480 } }, audio: false });
    if (closed) { end(); return; }
    view.srcObject = stream;
    go.disabled = false;
    said.textContent = "The recording goes into the folder, and stays on this machine.";
  } catch (error) {
    said.textContent = error.name === "NotAllowedError" ? "The camera was not allowed. Allow it in the browser's settings of this page." : `There is no camera that can be used (${error.message}).`;
    return;
  }
  go.onclick = async () => {
    if (busy) return;
    if (!name.value.trim()) { name.focus(); return; }
    busy = true;
    go.disabled = true;
    try {
      for (let left = 3; left > 0; left--) {
        over.hidden = false;
        over.textContent = String(left);
        await pause(1000);
        if (closed) return;
      }
      over.hidden = true;
      said.textContent = "Recording …";
      dialog.classList.add("recording");
      const blob = await record(stream, 1000 * Number(seconds.value), sound.checked);
      dialog.classList.remove("recording");
      if (closed) return;
      said.textContent = "Saving …";
      const query = new URLSearchParams({ class: name.value.trim() });
      const kept = await ask(`/api/record?${query}`, { method: "POST", headers: { "X-Har-Keras": "1", "Content-Type": blob.type }, body: blob });
      fill(said, "Saved as ", make("bdi", {}, kept.name), ".");
      await poll();
      drawn();
    } catch (error) {
      said.textContent = error.message;
      toast(error.message, "bad");
    } finally {
      dialog.classList.remove("recording");
      over.hidden = true;
      busy = false;
      go.disabled = closed;
    }
  };
}

const pause = (time) => new Promise((done) => setTimeout(done, time));

async function record(stream, time, withSound) {
  const tracks = [...stream.getVideoTracks()];
  let voice = null;
  if (withSound) {
    voice = await navigator.mediaDevices.getUserMedia({ audio: true });
    tracks.push(...voice.getAudioTracks());
  }
  const type = TYPES.find((one) => MediaRecorder.isTypeSupported(one));
  const chunks = [], machine = new MediaRecorder(new MediaStream(tracks), type ? { mimeType: type } : {});
  const ended = new Promise((done, failed) => { machine.onstop = done; machine.onerror = (event) => failed(event.error || new Error("The recording failed.")); });
  machine.ondataavailable = (event) => { if (event.data.size) chunks.push(event.data); };
  machine.start(500);
  await pause(time);
  machine.stop();
  await ended;
  voice?.getTracks().forEach((track) => track.stop());
  return new Blob(chunks, { type: machine.mimeType || "video/webm" });
}

