// The verdict so far, with links to its evidence.

import { copies } from "./copying.js";
import { $, button, el, morph, said, show } from "./elements.js";
import { key, known } from "./known.js";
import { SOON, asking } from "./pacing.js";
import { drawn } from "./timeline.js";
import { choose } from "./transcript.js";

const TONES = { "well behaved": "good", "not well behaved": "bad" };

export function drawVerdict() {
  if (known.verdict?.outcome === "never connected") known.verdict = null;
  morph(
    $("outcome"),
    known.verdict ? [el("span", { class: `outcome ${TONES[known.verdict.outcome] ?? "warn"}` }, known.verdict.outcome)] : [],
  );
  morph($("copies"), known.verdict ? tools() : []);
  if (!known.verdict) return drawNoVerdict();
  known.verdict.marked = new Set();
  const of = (outcome) => known.verdict.verdicts.filter((one) => one.outcome === outcome);
  for (const one of of("broken")) for (const piece of one.evidence) known.verdict.marked.add(piece.index);
  const rest = (outcome, words) =>
    of(outcome).length
      ? [
          el(
            "details",
            { "data-focus": outcome },
            el("summary", {}, `${words}: ${of(outcome).length}`),
            of(outcome).map(card),
          ),
        ]
      : [];
  morph($("verdict"), [
    said(known.verdict.result_in_words ?? "", "p", { class: "sentence" }),
    [...of("broken"), ...of("inconclusive")].map(card),
    rest("held", "Held"),
    rest("not exercised", "Not exercised by this run"),
  ]);
}

function drawNoVerdict() {
  const long = asking.verdict.wait() > SOON && known.lanes.size > 0;
  morph($("verdict"), [
    el(
      "p",
      { class: "dim" },
      long
        ? "The journal is long, and a verdict takes a while: it comes by itself."
        : "There is none before a client has connected.",
    ),
    long ? button("Judge now", () => asking.verdict.now(), { "data-focus": "judge" }) : "",
  ]);
}

function card(one) {
  const tone =
    { held: "good", broken: one.level === "advice" ? "warn" : "bad", inconclusive: "warn" }[one.outcome] ?? "idle";
  return el(
    "article",
    { class: `card ${tone}`, "data-focus": one.rule },
    el(
      "h3",
      {},
      el("span", { class: "word" }, one.outcome),
      " ",
      el("code", {}, one.rule),
      " ",
      el("span", { class: "level" }, one.level),
    ),
    el("p", {}, one.title),
    one.why ? said(one.why, "p", { class: "why" }) : "",
    ["broken", "inconclusive"].includes(one.outcome) && one.evidence.length
      ? el(
          "ul",
          { class: "evidence" },
          one.evidence.map((piece) => evidence(piece, one.rule)),
          one.evidence_left_out ? el("li", { class: "dim" }, `… and ${one.evidence_left_out} more`) : "",
        )
      : "",
    one.settled_by ? el("p", {}, `${one.settled_by} would settle it`) : "",
    one.outcome === "broken" ? el("p", { class: "dim" }, one.source) : "",
    one.outcome === "broken" ? el("div", { class: "row tools" }, copies(one.rule)) : "",
  );
}

/** A piece of evidence, which leads into the timeline. */
function evidence(piece, rule) {
  const at = Math.max(0, (piece.opened_at ?? piece.at) - (known.zero ?? 0));
  const reply = (piece.reply ?? "").split("\n").at(-1) || (piece.closed ? "closed" : "no reply");
  const words = `${piece.server} #${piece.connection} at ${show(at)}: ${piece.event === "closed" ? "the connection" : `${piece.request || piece.moment} → ${reply}`}`;
  return el(
    "li",
    {},
    button(
      said(words),
      () => {
        const lane = known.lanes.get(key(piece.server, piece.connection));
        const node = drawn.get(lane?.name);
        node?.scrollIntoView({ block: "center" });
        choose(
          lane ?? { name: "", server: piece.server, connection: piece.connection },
          piece.event === "closed" ? null : piece.index,
          true,
        );
      },
      { class: "link", "data-focus": `${rule} ${piece.index}` },
    ),
  );
}

function tools() {
  const names = known.servers.map((one) => encodeURIComponent(one.name)).join(",");
  const link = (words, format, suffix) =>
    el(
      "a",
      {
        class: "button",
        href: `/v1/verdict?format=${format}&server=${names}`,
        download: `notnow.${suffix}`,
        "data-focus": format,
      },
      words,
    );
  return [
    el("span", { class: "dim" }, "Report as"),
    link("HTML", "html", "html"),
    link("JUnit", "junit", "xml"),
    link("Markdown", "markdown", "md"),
    link("JSON", "json", "json"),
    ...copies(null),
  ];
}
