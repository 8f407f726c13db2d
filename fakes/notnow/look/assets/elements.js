// Elements, made and changed. Whatever a client has said becomes text nodes in <bdi> elements, with its control characters shown.

const SVG = "http://www.w3.org/2000/svg";

export const $ = (id) => document.getElementById(id);

/** An element. Strings among its children become text. */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) value && made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return made;
}

export function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) if (value != null) made.setAttribute(name, value);
  made.append(...children.filter((child) => child != null));
  return made;
}

/** A text in which nothing acts: controls, format characters and lone surrogates are shown as escapes. */
export function safe(text) {
  return String(text)
    .toWellFormed()
    .replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (char) => {
      const code = char.codePointAt(0);
      const named = { "\n": "\\n", "\r": "\\r", "\t": "\\t" }[char];
      return (
        named ??
        (code < 256
          ? `\\x${code.toString(16).padStart(2, "0")}`
          : code < 65536
            ? `\\u${code.toString(16).padStart(4, "0")}`
            : `\\U${code.toString(16).padStart(8, "0")}`)
      );
    });
}

/** A client's words: they cannot reorder their neighbours. */
export const said = (text, tag = "bdi", attributes = {}) =>
  el(tag, attributes, tag === "bdi" ? safe(text) : el("bdi", {}, safe(text)));

export const button = (text, onclick, attributes = {}) => el("button", { type: "button", onclick, ...attributes }, text);

/** Seconds for a reader, as units.show in Python writes them. */
export function show(span) {
  if (span < 0.9995) return span >= 0.0005 ? `${(span * 1000).toFixed(0)}ms` : "0s";
  if (span < 59.995) return `${Number(span.toFixed(2))}s`;
  const whole = Math.round(span);
  for (const [big, small, per] of [
    ["m", "s", 60],
    ["h", "m", 3600],
    ["d", "h", 86400],
  ]) {
    if (big === "d" || whole < { m: 3600, h: 86400 }[big]) {
      const rest = Math.floor((whole % per) / { s: 1, m: 60, h: 3600 }[small]);
      return `${Math.floor(whole / per)}${big}${rest ? ` ${rest}${small}` : ""}`;
    }
  }
}

export const plural = (n, one, many = `${one}s`) => `${n} ${n === 1 ? one : many}`;
/** Change the children of an element into these, and keep what stays the same: focus, selection, a button that is being pressed. */
export function morph(old, children) {
  const wanted = children.flat(Infinity).filter((child) => child != null && child !== false && child !== "");
  wanted.forEach((child, i) => {
    const there = old.childNodes[i];
    if (!there) old.append(child);
    else if (!(child instanceof Node))
      there.nodeType === Node.TEXT_NODE ? (there.data = child) : there.replaceWith(child);
    else if (there.isEqualNode(child)) return;
    else if (
      child.nodeType === Node.ELEMENT_NODE &&
      there.nodeName === child.nodeName &&
      there.dataset.focus === child.dataset.focus
    )
      adopt(there, child);
    else there.replaceWith(child);
  });
  while (old.childNodes.length > wanted.length) old.lastChild.remove();
}

function adopt(old, wanted) {
  for (const { name } of [...old.attributes])
    if (!wanted.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  for (const { name, value } of wanted.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  morph(old, [...wanted.childNodes]);
}

export const times = (n) => ({ 1: "once", 2: "twice" })[n] ?? `${n} times`;
