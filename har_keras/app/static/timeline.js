// The timeline of a video: frames, a curve a class, segments, and a head.

import { clock, find, inkOn, made, percent, swatch } from "/common.js";

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT] = [1000, 100];
const DASHES = ["", "14 6", "4 5"];

function drawn(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes))
    element.setAttribute(name, value);
  return element;
}

const colors = (color) =>
  color ? { background: color, color: inkOn(color) } : {};

export class Timeline {
  constructor(answer, classes, seek) {
    this.answer = answer;
    this.classes = classes;
    this.seek = seek;
    this.seconds = answer.edges[answer.edges.length - 1];
    this.time = 0;
    this.place = find("timeline");
    this.draw();
    this.listen();
    this.moveTo(0);
  }

  draw() {
    this.head = made("div", { className: "head" });
    this.track = made("div", {
      role: "slider", tabIndex: 0, "aria-label": "Moment of the video",
      "aria-valuemin": 0, "aria-valuemax": this.seconds.toFixed(1),
      className: "timeline",
    }, this.curves(), this.bars(), this.head);
    this.place.replaceChildren(this.track);
    find("frames").replaceChildren(
      ...this.answer.pictures.map((x) =>
        made("img", { src: `data:image/jpeg;base64,${x.jpeg}`, alt: "" })));
    find("axis").replaceChildren(
      ...[0, 0.25, 0.5, 0.75, 1].map((x) =>
        made("span", { textContent: clock(x * this.seconds) })));
    this.list();
    this.legend();
  }

  curves() {
    const svg = drawn("svg", {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none",
      "aria-hidden": "true",
    });
    const { edges, rows, threshold, far } = this.answer;
    for (const [begin, end] of far)
      svg.append(drawn("rect", {
        x: (WIDTH * begin) / this.seconds, y: 0, height: HEIGHT,
        width: (WIDTH * (end - begin)) / this.seconds, class: "far",
      }));
    this.classes.forEach((known, index) => {
      const points = rows.flatMap((row, window) => {
        const y = HEIGHT * (1 - row[index]);
        return [edges[window], edges[window + 1]].map(
          (x) => `${(WIDTH * x) / this.seconds},${y}`);
      });
      svg.append(drawn("polyline", {
        points: points.join(" "), fill: "none", stroke: known.color,
        "stroke-width": 2.5, "vector-effect": "non-scaling-stroke",
        "stroke-dasharray": DASHES[Math.floor(index / 7) % 3],
      }));
    });
    if (threshold) {
      const y = HEIGHT * (1 - threshold);
      svg.append(drawn("line", {
        x1: 0, x2: WIDTH, y1: y, y2: y, stroke: "currentColor",
        "stroke-width": 1.5, "stroke-dasharray": "5 5",
        "vector-effect": "non-scaling-stroke",
      }));
    }
    return svg;
  }

  bars() {
    const bars = this.answer.segments.map((x) => made("span", {
      className: x.class < 0 ? "none" : "",
      textContent: x.class < 0 ? "" : x.label, title: x.label,
      style: {
        flex: `${x.end - x.start} 1 0`,
        ...colors(x.class < 0 ? "" : this.classes[x.class].color),
      },
    }));
    return made("div", { className: "segments", "aria-hidden": "true" }, ...bars);
  }

  list() {
    this.lines = this.answer.segments.map((x) =>
      made("tr", {},
        made("td", {}, made("button", {
          textContent: `${clock(x.start)} – ${clock(x.end)}`,
          onclick: () => this.go(x.start),
          "aria-label": `Go to ${clock(x.start)}, ${x.label}`,
        })),
        made("td", {}, x.class < 0 ? "" : swatch(this.classes[x.class].color), x.label),
        made("td", { textContent: percent(x.share) })));
    find("segments").replaceChildren(
      made("table", { className: "list" }, made("tbody", {}, ...this.lines)));
  }

  legend() {
    const keys = this.classes.slice(0, 20).map((x) =>
      made("span", { className: "key" }, swatch(x.color), x.name));
    if (this.answer.threshold)
      keys.push(made("span", { className: "key" },
        made("span", { className: "dash" }),
        `threshold ${percent(this.answer.threshold)}: below it, none of these`));
    if (this.answer.far.length)
      keys.push(made("span", { className: "key" },
        made("span", { className: "swatch far" }),
        "unlike the training videos: none of these"));
    find("legend").replaceChildren(...keys);
  }

  listen() {
    const at = (event) => {
      const box = this.track.getBoundingClientRect();
      this.go(this.seconds * ((event.clientX - box.left) / box.width));
    };
    this.track.addEventListener("pointerdown", (event) => {
      this.track.setPointerCapture(event.pointerId);
      this.track.focus();
      at(event);
    });
    this.track.addEventListener("pointermove", (event) => {
      if (event.buttons) at(event);
    });
    this.track.addEventListener("keydown", (event) => {
      const steps = {
        ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1,
        PageUp: 10, PageDown: -10, Home: -Infinity, End: Infinity,
      };
      if (!(event.key in steps)) return;
      event.preventDefault();
      this.go(this.time + steps[event.key]);
    });
  }

  // Goes to a moment, in the player as well.
  go(seconds) {
    const end = Math.max(0, this.seconds - 0.05);
    const time = Math.min(end, Math.max(0, seconds));
    this.moveTo(time);
    this.seek(time);
  }

  // Shows a moment that the player is at.
  moveTo(seconds) {
    this.time = Math.min(this.seconds, Math.max(0, seconds));
    this.head.style.left = `${(100 * this.time) / this.seconds}%`;
    const place = this.answer.segments.findIndex((x) => this.time < x.end);
    const segment = this.answer.segments.at(place);
    this.lines.forEach((line, index) =>
      line.classList.toggle("now", this.answer.segments[index] === segment));
    this.track.setAttribute("aria-valuenow", this.time.toFixed(1));
    this.track.setAttribute(
      "aria-valuetext", `${clock(this.time)}, ${segment.label}`);
  }

  // The picture nearest to a moment, for videos that can't be played.
  picture(seconds) {
    const past = this.answer.pictures.filter((x) => x.seconds <= seconds + 0.01);
    const found = past.at(-1) ?? this.answer.pictures[0];
    return found ? `data:image/jpeg;base64,${found.jpeg}` : "";
  }
}
