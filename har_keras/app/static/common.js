// What both pages use. Names of classes and files are text, never HTML.

export const find = (id) => document.getElementById(id);

export function made(tag, options = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (name === "style") Object.assign(element.style, value);
    else if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

export const percent = (share) => `${Math.round(100 * share)} %`;

export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const tenths = Math.floor(10 * (Math.max(0, seconds) - whole));
  const minutes = Math.floor(whole / 60);
  return `${minutes}:${String(whole % 60).padStart(2, "0")}.${tenths}`;
}

export async function model() {
  const answer = await fetch("/api/model");
  const found = await answer.json();
  const names = found.classes.map((x) => x.name);
  const shown = names.slice(0, 20).join(", ") + (names.length > 20 ? ", …" : "");
  find("classes").textContent =
    `The model ${found.model} knows ${names.length} classes: ${shown}. ` +
    found.verdict;
  return found;
}

export function say(sentence) {
  const place = find("error");
  place.replaceChildren();
  if (sentence) place.append(made("p", { className: "error", textContent: sentence }));
}

// A bar a row, the largest first; a row has a label, a share and a color.
export function showBars(place, caption, rows) {
  const shown = [...rows].sort((a, b) => b.share - a.share).slice(0, 6);
  const lines = shown.map((x) =>
    made("tr", {},
      made("th", { scope: "row" }, swatch(x.color), x.label),
      made("td", { className: "bar" },
        made("div", { className: "track" },
          made("div", {
            className: "fill",
            style: { width: `${100 * x.share}%`, background: x.color },
          }))),
      made("td", { className: "number", textContent: percent(x.share) })));
  place.replaceChildren(
    made("table", { className: "shares" },
      made("caption", { className: "note", textContent: caption }),
      made("tbody", {}, ...lines)));
}

export const swatch = (color) =>
  made("span", { className: "swatch", style: { background: color } });

// Black or white: the one that is easier to read on a color.
export function inkOn(color) {
  const [red, green, blue] = [1, 3, 5].map((place) => {
    const value = parseInt(color.slice(place, place + 2), 16) / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? "#000" : "#fff";
}
