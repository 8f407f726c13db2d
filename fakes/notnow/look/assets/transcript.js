// What was said on a connection, and why rules fired or did not.

import { call, of } from "./calls.js";
import { $, el, said, show } from "./elements.js";
import { known } from "./known.js";
import { drawn } from "./timeline.js";

let transcripts = 0,
  hovering = null;

/** Choose it after so many milliseconds, unless something else is chosen meanwhile. */
export function chooseSoon(lane, index, delay) {
  stay();
  hovering = setTimeout(() => choose(lane, index), delay);
}

export const stay = () => clearTimeout(hovering);

/** Show what was said on a connection, and why rules fired or did not at one exchange. */
export async function choose(lane, index, go = false) {
  stay();
  if (!lane) return;
  const before = known.chosen;
  known.chosen = { name: lane.name, index };
  for (const name of [before?.name, lane.name]) drawn.get(name)?.classList.toggle("chosen", name === lane.name);
  const number = ++transcripts;
  try {
    const path = of(lane.server, `/journal?event=exchange&connection=${lane.connection}&limit=200`);
    let page = await call(path);
    if (index && page.next && page.entries.every((one) => one.index < index))
      page = await call(`${path}&after=${index - 1}`);
    const why = index ? await call(of(lane.server, `/exchanges/${index}/why`)).catch(() => null) : null;
    if (number === transcripts) drawTalk(lane, index, page, why, go);
  } catch (error) {
    if (number === transcripts) $("talk").replaceChildren(said(error.message, "p"));
  }
}

function drawTalk(lane, index, page, why, go) {
  const rows = page.entries.flatMap((one) => turns(one, one.index === index));
  $("talk").replaceChildren(
    el("h3", { id: "talk-title", tabindex: -1 }, `${lane.server} #${lane.connection}`),
    el(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-labelledby": "talk-title" },
      el("table", {}, el("tbody", {}, rows)),
    ),
    page.next ? el("p", { class: "dim" }, "… and more: the journal has it all") : "",
    whys(why),
  );
  const marked = [...$("talk").querySelectorAll(".marked")].at(-1),
    box = $("talk").querySelector(".scroll");
  if (marked) box.scrollTop = marked.offsetTop - box.clientHeight / 2;
  if (go) $("talk-title").focus({ preventScroll: false });
}

function turns(one, marked) {
  const lines = [];
  if (one.request) lines.push([one.moment === "transfer" ? "D" : "C", one.request]);
  const replies = (one.reply ?? "").split("\n").filter(Boolean);
  if (!replies.length && (one.closed || one.request)) replies.push(one.closed ? "(closes)" : "(says nothing)");
  else if (one.closed) replies[replies.length - 1] += "   (and closes)";
  if (one.fault && replies.length) replies[replies.length - 1] += `   [${one.fault}, ${one.rule ?? "by hand"}]`;
  lines.push(...replies.map((line) => ["S", line]));
  const names = { C: "client", S: "server", D: "data connection" };
  return lines.map(([speaker, line], i) =>
    el(
      "tr",
      { class: `${speaker.toLowerCase()}${marked ? " marked" : ""}${one.fault && speaker === "S" ? " refused" : ""}` },
      el("td", { class: "at" }, i ? "" : show(Math.max(0, one.at - (known.zero ?? 0)))),
      el("th", { scope: "row" }, el("abbr", { title: names[speaker] }, speaker)),
      said(line, "td"),
    ),
  );
}

function whys(found) {
  if (!found) return "";
  if (!found.rules.length) return el("p", { class: "dim" }, "No rule of this phase looks at this moment.");
  return el(
    "div",
    { class: "whys" },
    el("h4", {}, "Why"),
    el(
      "ul",
      {},
      found.rules.map((one) =>
        el(
          "li",
          { class: one.fired ? "fired" : "" },
          el("code", {}, one.rule),
          ` ${one.fired ? "fired" : "did not fire"}: `,
          said(one.why),
        ),
      ),
    ),
  );
}
