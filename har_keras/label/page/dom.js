// Elements of the page. Text is only ever set as text: no name of a file or a
// class can become markup.

export const byId = (id) => document.getElementById(id);

/** Makes an element: make("button.wide", {title: "x", onclick}, "text", child). */
export function make(kind, props = {}, ...children) {
  const [tag, ...classes] = kind.split(".");
  const element = document.createElement(tag || "div");
  if (classes.length) element.className = classes.join(" ");
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null) continue;
    if (name in element && name !== "list") element[name] = value;
    else element.setAttribute(name, value);
  }
  add(element, ...children);
  return element;
}

export function add(element, ...children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
  return element;
}

export function fill(element, ...children) {
  element.replaceChildren();
  return add(element, ...children);
}

/** A name in its own direction, which can't turn what stands beside it. */
export const named = (text, kind = "bdi") => make(kind, { dir: "auto" }, text);

export function toast(text, kind = "", action = null) {
  const box = byId("toasts");
  const item = make(`div.toast${kind ? `.${kind}` : ""}`, {}, make("span", { dir: "auto" }, text));
  if (action) item.append(make("button", { onclick: () => { item.remove(); action.run(); } }, action.name));
  while (box.children.length > 2) box.firstChild.remove();
  box.append(item);
  setTimeout(() => item.remove(), kind === "bad" ? 9000 : 3500);
}

export function clock(seconds, digits = 0) {
  if (!Number.isFinite(seconds)) return "";
  const whole = Math.floor(seconds / 60), rest = seconds - 60 * whole;
  const hours = Math.floor(whole / 60);
  const text = rest.toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
  if (hours) return `${hours}:${String(whole % 60).padStart(2, "0")}:${text}`;
  return `${whole}:${text}`;
}

export const percent = (share) => `${Math.round(100 * share)} %`;

/** Colours of classes, by their place; the style sheet has ten of them. */
export const tint = (place) => `tint${((place % 10) + 10) % 10}`;

/** Opens the one dialog with some content, and returns it. */
export function openDialog(title, ...content) {
  const dialog = byId("dialog");
  const close = make("button.square", { type: "button", title: "Close (Esc)", ariaLabel: "Close", onclick: () => dialog.close() }, icon("close"));
  fill(dialog, make("div.head", {}, make("h2", {}, title), close), ...content);
  dialog.tabIndex = -1;
  if (!dialog.open) dialog.showModal();
  dialog.focus();
  return dialog;
}

const ICONS = {
  play: "M7 4.5v15l12-7.5z", pause: "M6 4.5h4v15H6zM14 4.5h4v15h-4z", back: "M5 5h2.5v14H5zM19 5v14L8.5 12z", on: "M16.5 5H19v14h-2.5zM5 5v14l10.5-7z",
  loop: "M12 5a7 7 0 1 1-6.7 5h2.1A5 5 0 1 0 12 7v3L7.5 6 12 2z", left: "M14.5 5.5 8 12l6.5 6.5 1.5-1.5-5-5 5-5z",
  up: "M12 8l7 7-1.5 1.5L12 11l-5.5 5.5L5 15z", down: "M12 16l7-7-1.5-1.5L12 13 6.5 7.5 5 9z", close: "M6.4 5 12 10.6 17.6 5 19 6.4 13.4 12l5.6 5.6-1.4 1.4-5.6-5.6L6.4 19 5 17.6l5.6-5.6L5 6.4z",
};

/** A small picture for a button, which needs no font. */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const element = document.createElementNS(space, "svg"), path = document.createElementNS(space, "path");
  element.setAttribute("viewBox", "0 0 24 24");
  element.setAttribute("class", "icon");
  element.setAttribute("aria-hidden", "true");
  path.setAttribute("d", ICONS[name]);
  element.append(path);
  return element;
}
