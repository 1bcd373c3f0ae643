// The camera of the browser that shows a notebook. Python asks for the newest
// frames, again and again, and sends the words that are shown below the picture.
window.harCamera = {
  async start(fps, shortSide, keep) {
    const stream = await navigator.mediaDevices.getUserMedia({ video: true });
    const video = document.createElement("video");
    video.srcObject = stream;
    video.muted = video.playsInline = true;
    video.style.cssText = "display: block; max-height: 240px";
    const words = document.createElement("strong");
    words.setAttribute("role", "status");
    const button = document.createElement("button");
    button.textContent = "Stop";
    button.style.marginRight = "12px";
    button.onclick = () => { this.stopped = true; };
    document.body.append(video, button, words);
    await video.play();
    const scale = shortSide / Math.min(video.videoWidth, video.videoHeight);
    const canvas = document.createElement("canvas");
    canvas.width = Math.round(video.videoWidth * scale);
    canvas.height = Math.round(video.videoHeight * scale);
    const picture = canvas.getContext("2d");
    Object.assign(this, { frames: [], number: 0, stopped: false, words });
    const timer = setInterval(() => {
      picture.drawImage(video, 0, 0, canvas.width, canvas.height);
      this.frames.push(canvas.toDataURL("image/jpeg", 0.85).split(",")[1]);
      this.frames.splice(0, this.frames.length - keep);
      this.number += 1;
    }, 1000 / fps);
    this.stop = () => {
      clearInterval(timer);
      stream.getTracks().forEach((track) => track.stop());
      button.remove();
    };
  },

  // Waits for frame `number`; returns the newest ones since frame `known`.
  async next(number, known, words) {
    this.words.textContent = words;
    while (this.number < number && !this.stopped) {
      await new Promise((done) => setTimeout(done, 20));
    }
    const frames = this.number > known ? this.frames.slice(known - this.number) : [];
    return { number: this.number, stopped: this.stopped, frames };
  },
};
