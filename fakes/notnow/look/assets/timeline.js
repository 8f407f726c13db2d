// The timeline: a lane for each connection, drawn to scale.

import { $, button, el, morph, plural, safe, said, show, svg } from "./elements.js";
import { MOST, dirty, known } from "./known.js";

const TOP = 46,
  LANE = 28,
  FOOT = 6; // pixels, as in conduct/pictures/chart.py
const STEPS = [
  ...[1, 2, 5, 10, 20, 50, 100, 200, 500].map((n) => n / 1000),
  1,
  2,
  5,
  10,
  15,
  30,
  ...[1, 2, 5, 10, 15, 30].map((n) => 60 * n),
  ...[1, 2, 3, 6, 12].map((n) => 3600 * n),
  ...[1, 2, 5, 10, 30, 100].map((n) => 86400 * n),
];
const CLASSES = { 421: "busy", refused: "refused", done: "done" };
const SHAPES = {
  421: [
    ["circle", { r: 6.5 }],
    ["path", { d: "M-3.5 0h7" }],
  ],
  refused: [["path", { d: "M0 -7 L7 0 L0 7 L-7 0 z" }]],
  done: [
    ["circle", { r: 6.5 }],
    ["path", { d: "M-3 .2 l2.2 2.3 l4 -4.6" }],
  ],
};

let span = 0;
export const drawn = new Map(); // lane name -> its group in the drawing
let canvas = null;

const x = (at) => `${(100 * Math.min(1, Math.max(0, span > 0 ? at / span : 0))).toFixed(2)}%`;
const place = (i) => TOP + LANE * (i + 0.5);
const who = (lane) => (known.servers.length > 1 ? `${lane.server} #${lane.connection}` : `#${lane.connection}`);
/** The same in two parts: the name of the server may be cut, the number of the connection never. */
const named = (lane) =>
  known.servers.length > 1
    ? [el("span", { class: "of" }, lane.server), el("span", {}, ` #${lane.connection}`)]
    : `#${lane.connection}`;
const tone = (lane) => CLASSES[lane.marks.at(-1)?.kind] ?? "quiet";

export function draw() {
  const any = known.lanes.size > 0;
  $("figure").hidden = $("as-table").hidden = $("talk").hidden = !any;
  $("empty").hidden = any || !known.servers.length;
  if (!any) return;
  if (known.latest > span || known.latest < span / 3) {
    span = known.latest * (span && known.latest > span ? 1.25 : 1); // room to grow, so that not every event moves everything
    known.stale = true;
  }
  if (known.stale || !canvas) drawAll();
  else for (const name of dirty) if (known.lanes.has(name)) drawLane(known.lanes.get(name));
  known.stale = false;
  dirty.clear();
  $("span").textContent = `${plural(known.lanes.size + known.leftOut, "connection")} in ${show(known.latest)} of scenario time`;
  $("left-out").textContent = [
    known.leftOut && `${known.leftOut} connections between the first and the last ${MOST / 2} are left out.`,
    known.dropped && `The oldest ${known.dropped} exchanges were dropped: the journal was full.`,
  ]
    .filter(Boolean)
    .join(" ");
  if ($("as-table").open) drawTable();
}

function drawAll() {
  const focused = document.activeElement?.dataset?.index;
  const all = [...known.lanes.values()],
    bottom = TOP + LANE * all.length;
  all.forEach((lane, i) => (lane.row = i));
  drawn.clear();
  canvas = svg("svg", {
    width: "100%",
    height: bottom + FOOT,
    role: "group",
    "aria-label": $("span").textContent || "connections",
  });
  canvas.append(
    ...all
      .filter((_, i) => i % 2 === 0)
      .map((lane) => svg("rect", { class: "band", x: 0, y: place(lane.row) - LANE / 2, width: "100%", height: LANE })),
  );
  canvas.append(axis(bottom), waits(all), svg("g", { class: "thread" }));
  for (const lane of all) {
    drawn.set(lane.name, svg("g"));
    canvas.append(drawn.get(lane.name));
    drawLane(lane);
  }
  const names = el(
    "ol",
    { class: "names" },
    all.map((lane) =>
      el(
        "li",
        { class: tone(lane), "data-lane": lane.name },
        button(named(lane), null, { title: safe(`${who(lane)}: ${lane.outcome || "open"}`), tabindex: -1 }),
      ),
    ),
  );
  $("lanes").replaceChildren(el("div", { class: "lanes" }, names, el("div", { class: "track" }, canvas)));
  follow();
  roam(focused);
}

function axis(bottom) {
  const step = STEPS.find((one) => span / one <= 6) ?? STEPS.at(-1);
  const made = svg("g", { class: "axis", "aria-hidden": "true" });
  for (let at = 0; span > 0 && at <= span; at += step) {
    const share = at / span;
    made.append(
      svg("line", { class: "grid", x1: x(at), x2: x(at), y1: TOP, y2: bottom }),
      svg(
        "text",
        {
          class: "tick",
          x: x(at),
          y: TOP - 8,
          "text-anchor": share > 0.96 ? "end" : share < 0.01 ? "start" : "middle",
        },
        show(at),
      ),
    );
  }
  let before = null; // the words of two phases that are close stand one above the other
  for (const phase of known.phases.slice(-6)) {
    const raised = before !== null && !before.raised && phase.at - before.at < 0.3 * span;
    before = { at: phase.at, raised };
    const words = `phase ${phase.name}${known.servers.length > 1 ? ` of ${phase.server}` : ""}`;
    made.append(
      svg("line", { class: "phase", x1: x(phase.at), x2: x(phase.at), y1: TOP, y2: bottom }),
      svg(
        "text",
        {
          class: "phase",
          x: x(phase.at),
          y: TOP - (raised ? 38 : 26),
          "text-anchor": phase.at > 0.5 * span ? "end" : "start",
        },
        words,
      ),
    );
  }
  return made;
}

/** The waits of all lanes, drawn to scale: along the lane of the refusal, then down to that of the next attempt. */
function waits(all) {
  const rows = new Map(all.map((lane) => [lane.index, lane.row]));
  const made = svg("g");
  for (const lane of all) {
    for (const wait of lane.waits) {
      const y = place(lane.row),
        to = rows.get(wait.to),
        share = (wait.end - wait.start) / span;
      made.append(
        svg(
          "g",
          { class: "wait" },
          svg("title", {}, `waits ${show(wait.end - wait.start)}`),
          svg("line", { x1: x(wait.start), x2: x(wait.end), y1: y, y2: y }),
          to !== undefined && to !== lane.row
            ? svg("line", { x1: x(wait.end), x2: x(wait.end), y1: y, y2: place(to) })
            : null,
          share < 0.09
            ? null
            : svg(
                "text",
                {
                  class: share < 0.2 ? "some" : "much",
                  x: x((wait.start + wait.end) / 2),
                  y: y - 5,
                  "text-anchor": "middle",
                },
                show(wait.end - wait.start),
              ),
        ),
      );
    }
  }
  return made;
}

function drawLane(lane) {
  const node = drawn.get(lane.name),
    y = place(lane.row);
  if (!node) return;
  const focused = node.contains(document.activeElement) ? document.activeElement.dataset.index : null;
  node.setAttribute("class", `lane${lane.name === known.chosen?.name ? " chosen" : ""}`);
  node.replaceChildren(svg("line", { class: `open ${tone(lane)}`, x1: x(lane.start), x2: x(lane.end), y1: y, y2: y }));
  const shown = new Map();
  for (const one of lane.marks) shown.set(`${one.kind} ${span ? Math.round((500 * one.at) / span) : 0}`, one);
  const order = ["done", "refused", "421"];
  for (const one of [...shown.values()].sort((a, b) => order.indexOf(a.kind) - order.indexOf(b.kind)))
    node.append(drawMark(lane, one, y));
  const told = lane.marks.filter((one) => one.kind === "421");
  if (told.length) {
    const late = told.at(-1).at > 0.85 * span;
    node.append(
      svg(
        "svg",
        { x: x(told.at(-1).at), y, overflow: "visible", "aria-hidden": "true" },
        svg(
          "text",
          { class: "told", x: late ? -10 : 10, y: 4, "text-anchor": late ? "end" : "start" },
          told.length === 1 ? "421" : `421 ×${told.length}`,
        ),
      ),
    );
  }
  const label = $("lanes").querySelector(`.names > :nth-child(${lane.row + 1})`);
  if (label?.dataset.lane === lane.name) label.className = tone(lane);
  if (focused) node.querySelector(`[data-index="${focused}"]`)?.focus();
}

function drawMark(lane, one, y) {
  const label = safe(`${show(one.at)}: ${one.text}`);
  const made = svg(
    "g",
    {
      class: `mark ${CLASSES[one.kind]}${isEvidence(one.index) ? " evidence-of" : ""}`,
      role: "button",
      tabindex: -1,
      "aria-label": `${who(lane)}, ${label}`,
      "data-index": one.index,
      "data-lane": lane.name,
    },
    ...SHAPES[one.kind].map(([tag, attributes]) => svg(tag, attributes)),
  );
  return svg("svg", { x: x(one.at), y, overflow: "visible" }, made);
}

const isEvidence = (index) => known.verdict?.marked?.has(index) ?? false;

/** One mark is in the tab order; arrow keys go from mark to mark. */
function roam(index) {
  const marks = [...$("lanes").querySelectorAll(".mark")];
  const here = marks.find((one) => one.dataset.index === index);
  const current = here ?? marks.find((one) => Number(one.dataset.index) === known.chosen?.index) ?? marks[0];
  current?.setAttribute("tabindex", 0);
  if (here) here.focus();
}

function drawTable() {
  morph(
    $("rows"),
    [...known.lanes.values()].map((lane) =>
      el(
        "tr",
        { "data-focus": `row ${lane.name}` },
        el(
          "th",
          { scope: "row" },
          button(who(lane), null, {
            class: "link",
            "data-lane": lane.name,
            "aria-label": `Transcript of ${who(lane)}`,
          }),
        ),
        el("td", {}, show(lane.start)),
        el("td", {}, lane.live ? "still open" : show(lane.end - lane.start)),
        said(lane.outcome || lane.marks.at(-1)?.text || "…", "td"),
      ),
    ),
  );
}
$("as-table").addEventListener("toggle", () => $("as-table").open && drawTable());

/** Draw a line through the tries of the item that is followed. */
export function follow() {
  const thread = canvas?.querySelector(".thread"),
    item = known.items.find((one) => one.name === known.chosenItem);
  if (!thread) return;
  canvas.classList.toggle("following", Boolean(item));
  const rows = new Map([...known.lanes.values()].map((lane) => [lane.index, lane]));
  for (const one of canvas.querySelectorAll(".lane.followed")) one.classList.remove("followed");
  thread.replaceChildren();
  const points = (item?.tries ?? [])
    .filter((one) => rows.has(one.lane))
    .map((one) => ({ ...one, on: rows.get(one.lane) }));
  points.forEach((one, i) => {
    drawn.get(one.on.name)?.classList.add("followed");
    const from = points[i - 1];
    if (from)
      thread.append(svg("line", { x1: x(from.at), y1: place(from.on.row), x2: x(one.at), y2: place(one.on.row) }));
    thread.append(svg("circle", { cx: x(one.at), cy: place(one.on.row), r: 10 }));
  });
}
