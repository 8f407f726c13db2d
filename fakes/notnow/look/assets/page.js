// The page of the control API. The server draws it once; from then on this module keeps it up to date: marks come straight
// from the stream of events, and everything else (waits, items, verdict, counts) from the API, a moment later.
//
// Everything that a client has said is hostile: it becomes text nodes in <bdi> elements, with its control characters shown.

const MOST = 200; // lanes that are drawn: of more connections, the first and the last
const MARKS = 2000; // marks that are drawn, shared out among the lanes: of more, the first and the last of each
const WAITING = 2000; // events that wait for a frame; beyond that, the page asks for everything anew
const TOP = 46,
  LANE = 28,
  FOOT = 6; // pixels, as in conduct/pictures/chart.py
const SOON = 250,
  LATE = 120_000; // milliseconds before the page asks for more: least and most
const SHARE = 25; // how many times as long as the last answer took it waits before it asks again
const JUDGING = 0.05,
  DRAWING = 0.02,
  QUICK = 20; // milliseconds for an exchange, and at least, until an answer has shown how long it takes
const PATIENCE = 1000; // milliseconds that the first verdict may take without waiting for its turn
const FLOOD = 20,
  REST = 4; // events in one frame from which on the page rests after it, and how many times as long as it took
const SPEAK = 4000; // milliseconds between two announcements to screen readers
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
const SVG = "http://www.w3.org/2000/svg";
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
const TONES = { "well behaved": "good", "not well behaved": "bad" };

const $ = (id) => document.getElementById(id);
const group = document.body.dataset.group;

// ---- making elements -----------------------------------------------------------------------------

/** An element. Strings among its children become text. */
function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) value && made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return made;
}

function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) if (value != null) made.setAttribute(name, value);
  made.append(...children.filter((child) => child != null));
  return made;
}

/** A text in which nothing acts: controls, format characters and lone surrogates are shown as escapes. */
function safe(text) {
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
const said = (text, tag = "bdi", attributes = {}) =>
  el(tag, attributes, tag === "bdi" ? safe(text) : el("bdi", {}, safe(text)));

const button = (text, onclick, attributes = {}) => el("button", { type: "button", onclick, ...attributes }, text);

/** Seconds for a reader, as units.show in Python writes them. */
function show(span) {
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

const plural = (n, one, many = `${one}s`) => `${n} ${n === 1 ? one : many}`;
/** Change the children of an element into these, and keep what stays the same: focus, selection, a button that is being pressed. */
function morph(old, children) {
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

const times = (n) => ({ 1: "once", 2: "twice" })[n] ?? `${n} times`;

// ---- calls ---------------------------------------------------------------------------------------

/** Call the API; an error is the sentence of its problem. */
async function call(path, { method = "GET", body, text = false } = {}) {
  const options =
    method === "GET"
      ? {}
      : { method, headers: { "content-type": "application/json" }, body: JSON.stringify(body ?? {}) };
  const answer = await fetch(path, options);
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({ detail: answer.statusText }));
    throw new Error(problem.detail);
  }
  return answer.status === 204 ? null : text ? answer.text() : answer.json();
}

const of = (name, rest = "") => `/v1/servers/${encodeURIComponent(name)}${rest}`;

/** Do something for a click; say what went wrong, or what was done. */
async function act(work, done) {
  try {
    const found = await work();
    $("alert").replaceChildren();
    if (done) announce(typeof done === "function" ? done(found) : done, true);
  } catch (error) {
    $("alert").replaceChildren(said(error.message, "p"));
  }
  refreshSoon();
}

// ---- what is known -------------------------------------------------------------------------------

const lanes = new Map(); // server#connection -> lane, in the order in which they came
let servers = [],
  rules = new Map(),
  phases = [],
  items = [],
  verdict = null;
let zero = null,
  leftOut = 0,
  dropped = 0,
  latest = 0;
let chosenItem = null,
  chosen = null; // the item that is followed; the exchange whose transcript is shown

const key = (server, connection) => `${server}#${connection}`;
const mine = (server) => servers.some((one) => one.name === server);

/** Put an event of the stream into what is known. */
function take(event) {
  if (event.event === "exchange" || event.event === "closed") {
    if (!mine(event.server)) return;
    zero ??= event.opened_at ?? event.at;
    const at = Math.max(0, event.at - zero);
    latest = Math.max(latest, at);
    const lane = laneOf(event, at);
    lane.end = Math.max(lane.end, at);
    if (event.event === "closed") lane.live = false;
    else mark(lane, event, at);
    redraw(lane);
  } else if (event.event === "phase" && mine(event.server) && zero !== null) {
    phases.push({ at: Math.max(0, event.at - zero), server: event.server, name: event.text });
    stale = true;
  }
}

function laneOf(event, at) {
  const name = key(event.server, event.connection);
  if (!lanes.has(name)) {
    const start = event.opened_at === undefined ? at : Math.max(0, event.opened_at - zero);
    lanes.set(name, {
      name,
      server: event.server,
      connection: event.connection,
      start,
      end: at,
      live: true,
      outcome: "",
      marks: [],
      waits: [],
    });
    if (lanes.size > MOST) {
      lanes.delete([...lanes.keys()][MOST / 2]);
      leftOut += 1;
    }
    stale = true;
  }
  return lanes.get(name);
}

function mark(lane, event, at) {
  const facts = event.facts ?? {};
  const through = facts.type === "message" || "recipients" in facts ? facts.stored : facts.whole;
  const kind = event.refused ? (event.codes?.includes(421) ? "421" : "refused") : through ? "done" : null;
  if (kind === null) return;
  const reply = (event.reply ?? "").split("\n").at(-1) || (event.closed ? "closed without a reply" : "no reply");
  const text = kind === "done" ? event.request || event.moment : `${event.moment}: ${reply}`;
  const known = lane.marks.find((one) => one.index === event.index);
  if (known) Object.assign(known, { at, kind, text });
  else lane.marks.push({ index: event.index, at, kind, text });
  const most = Math.max(4, Math.floor(MARKS / lanes.size));
  if (lane.marks.length > most) lane.marks.splice(most / 2, lane.marks.length - most);
}

// ---- the stream ----------------------------------------------------------------------------------

let queue = [],
  recent = [],
  framed = false,
  tired = 0;

function listen() {
  const stream = new EventSource(`/v1/events?after=${document.body.dataset.last}`);
  let broken = false;
  stream.onopen = () => {
    state("live", "live");
    if (broken) refreshSoon();
    broken = false;
  };
  stream.onerror = () => {
    broken = true;
    state("lost", "connecting again …");
  };
  for (const kind of ["exchange", "closed", "phase", "play"]) {
    stream.addEventListener(kind, (event) => receive(JSON.parse(event.data)));
  }
  for (const kind of ["skipped", "started", "stopped", "reset"]) stream.addEventListener(kind, refreshSoon);
}

function receive(event) {
  if (queue.length < WAITING) queue.push(event);
  if (recent.length < WAITING) recent.push(event);
  if (mine(event.server)) count(event);
  frame();
  refreshSoon();
}

/** Draw with the next frame; after a drawing that took long, a little later. */
function frame() {
  if (framed) return;
  framed = true;
  const rest = tired - performance.now();
  if (rest > 0) setTimeout(() => requestAnimationFrame(work), rest);
  else requestAnimationFrame(work);
}

function work() {
  const begun = performance.now(),
    many = queue.length > FLOOD;
  for (const event of queue.splice(0)) take(event);
  draw();
  setTimeout(() => {
    // when the frame is painted, too
    framed = false;
    tired = many ? performance.now() + REST * (performance.now() - begun) : 0;
    if (queue.length) frame();
  });
}

function state(kind, words) {
  $("state").dataset.state = kind;
  if ($("state-words").textContent !== words) $("state-words").textContent = words;
}

// ---- asking for the rest -------------------------------------------------------------------------

/** A function that does some work soon, and seldom enough that it takes a small part of the server's time. */
function paced(work, expect = () => 0) {
  let timer = null,
    running = false,
    again = false,
    cost = null,
    ended = 0;
  async function now() {
    clearTimeout(timer);
    timer = null;
    if (running) return;
    running = true;
    again = false;
    const begun = performance.now();
    try {
      await work();
    } catch (error) {
      if (error instanceof TypeError) state("lost", "connecting again …");
      else if (servers.length) $("alert").replaceChildren(said(error.message, "p"));
    } finally {
      ended = performance.now();
      // The first answer is slow because the server loads code for it.
      cost = cost === null ? Math.min(ended - begun, Math.max(QUICK, expect())) : ended - begun;
      running = false;
      if (again) soon();
    }
  }
  function soon() {
    if (running || document.hidden) again = true;
    else timer ??= setTimeout(now, wait());
  }
  const wait = () => Math.min(LATE, Math.max(SOON, ended + SHARE * (cost ?? expect()) - performance.now()));
  return { now, soon, wait };
}

const entries = () => servers.reduce((sum, one) => sum + one.exchanges, 0);
const asking = {
  servers: paced(askServers),
  timeline: paced(askTimeline, () => DRAWING * entries()),
  verdict: paced(askVerdict, () => JUDGING * entries()),
};

function refreshSoon() {
  for (const one of Object.values(asking)) one.soon();
}
document.addEventListener("visibilitychange", () => document.hidden || refreshSoon());

async function askServers() {
  servers = (await call("/v1/servers")).servers.filter((one) => one.group === group).slice(0, 50);
  if (!servers.length) return group ? nobody() : first();
  await Promise.all(servers.map(async (one) => rules.set(one.name, (await call(of(one.name, "/rules"))).rules)));
  drawServers();
}

async function askTimeline() {
  if (!servers.length) return;
  recent = [];
  put(await call(`/v1/timeline?most=${MOST}&group=${encodeURIComponent(group)}`));
  drawItems();
  draw();
}

async function askVerdict() {
  if (!servers.length) return;
  verdict = await call(`/v1/verdict?most=10&server=${servers.map((one) => encodeURIComponent(one.name)).join(",")}`);
  drawVerdict();
  stale = true;
  draw();
}

/** The first server was started while the page showed none. */
async function first() {
  if ((await call("/v1/servers")).servers.length) location.reload();
}

function nobody() {
  drawServers();
  lanes.clear();
  verdict = null;
  drawVerdict();
  draw();
}

/** Take a timeline of the API in place of what is known, then the events that came while it was made. */
function put(line) {
  lanes.clear();
  zero = line.lanes.length ? line.zero : null;
  latest = line.span;
  ({ left_out: leftOut, dropped, phases, items } = line);
  for (const lane of line.lanes)
    lanes.set(key(lane.server, lane.connection), { ...lane, name: key(lane.server, lane.connection) });
  stale = true;
  for (const event of recent.filter((one) => one.event !== "phase")) take(event);
}

// ---- the timeline --------------------------------------------------------------------------------

let stale = true,
  span = 0;
const dirty = new Set();
const drawn = new Map(); // lane name -> its group in the drawing
let canvas = null,
  tip = null;

function redraw(lane) {
  dirty.add(lane.name);
}

const x = (at) => `${(100 * Math.min(1, Math.max(0, span > 0 ? at / span : 0))).toFixed(2)}%`;
const place = (i) => TOP + LANE * (i + 0.5);
const who = (lane) => (servers.length > 1 ? `${lane.server} #${lane.connection}` : `#${lane.connection}`);
const tone = (lane) => CLASSES[lane.marks.at(-1)?.kind] ?? "quiet";

function draw() {
  const any = lanes.size > 0;
  $("figure").hidden = $("as-table").hidden = $("talk").hidden = !any;
  $("empty").hidden = any || !servers.length;
  if (!any) return;
  if (latest > span || latest < span / 3) {
    span = latest * (span && latest > span ? 1.25 : 1); // room to grow, so that not every event moves everything
    stale = true;
  }
  if (stale || !canvas) drawAll();
  else for (const name of dirty) if (lanes.has(name)) drawLane(lanes.get(name));
  stale = false;
  dirty.clear();
  $("span").textContent = `${plural(lanes.size + leftOut, "connection")} in ${show(latest)} of scenario time`;
  $("left-out").textContent = [
    leftOut && `${leftOut} connections between the first and the last ${MOST / 2} are left out.`,
    dropped && `The oldest ${dropped} exchanges were dropped: the journal was full.`,
  ]
    .filter(Boolean)
    .join(" ");
  if ($("as-table").open) drawTable();
}

function drawAll() {
  const focused = document.activeElement?.dataset?.index;
  const all = [...lanes.values()],
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
        button(who(lane), () => choose(lane, lane.marks[0]?.index), {
          title: lane.outcome ? safe(lane.outcome) : null,
          tabindex: -1,
        }),
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
  for (const phase of phases.slice(-6)) {
    const raised = before !== null && !before.raised && phase.at - before.at < 0.3 * span;
    before = { at: phase.at, raised };
    const words = `phase ${phase.name}${servers.length > 1 ? ` of ${phase.server}` : ""}`;
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
  node.setAttribute("class", `lane${lane.name === chosen?.name ? " chosen" : ""}`);
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
  const named = $("lanes").querySelector(`.names > :nth-child(${lane.row + 1})`);
  if (named?.dataset.lane === lane.name) named.className = tone(lane);
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

const isEvidence = (index) => verdict?.marked?.has(index) ?? false;

/** One mark is in the tab order; arrow keys go from mark to mark. */
function roam(index) {
  const marks = [...$("lanes").querySelectorAll(".mark")];
  const here = marks.find((one) => one.dataset.index === index);
  const current = here ?? marks.find((one) => Number(one.dataset.index) === chosen?.index) ?? marks[0];
  current?.setAttribute("tabindex", 0);
  if (here) here.focus();
}

$("lanes").addEventListener("keydown", (event) => {
  const here = event.target.closest(".mark");
  if (!here) return;
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    choose(lanes.get(here.dataset.lane), Number(here.dataset.index), true);
    return;
  }
  const marks = [...$("lanes").querySelectorAll(".mark")];
  const row = (one) => lanes.get(one.dataset.lane)?.row ?? 0;
  const there = {
    ArrowRight: () => marks[marks.indexOf(here) + 1],
    ArrowLeft: () => marks[marks.indexOf(here) - 1],
    ArrowDown: () => marks.find((one) => row(one) > row(here)),
    ArrowUp: () => marks.findLast((one) => row(one) < row(here)),
    Home: () => marks[0],
    End: () => marks.at(-1),
  }[event.key]?.();
  if (there) {
    event.preventDefault();
    here.setAttribute("tabindex", -1);
    there.setAttribute("tabindex", 0);
    there.focus();
  }
});

let hovering = null;
const look = (event) => {
  const here = event.target.closest?.(".mark");
  clearTimeout(hovering);
  if (!here?.dataset.lane) return hideTip();
  showTip(here);
  hovering = setTimeout(
    () => choose(lanes.get(here.dataset.lane), Number(here.dataset.index)),
    event.type === "focusin" ? 60 : 250,
  );
};
$("lanes").addEventListener("pointerover", look);
$("lanes").addEventListener("focusin", look);
$("lanes").addEventListener("focusout", () => hideTip());
$("lanes").addEventListener("click", (event) => {
  const here = event.target.closest(".mark");
  if (here?.dataset.lane) choose(lanes.get(here.dataset.lane), Number(here.dataset.index), true);
});

function showTip(here) {
  tip ??= document.body.appendChild(el("div", { class: "tip", "aria-hidden": "true" }));
  const box = here.getBoundingClientRect();
  tip.replaceChildren(said(here.getAttribute("aria-label")));
  tip.hidden = false;
  tip.style.left = `${Math.max(8, Math.min(box.left + box.width / 2 - tip.offsetWidth / 2, innerWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${box.top + scrollY - tip.offsetHeight - 8}px`;
}

function hideTip() {
  if (tip) tip.hidden = true;
}

function drawTable() {
  morph(
    $("rows"),
    [...lanes.values()].map((lane) =>
      el(
        "tr",
        { "data-focus": `row ${lane.name}` },
        el(
          "th",
          { scope: "row" },
          button(who(lane), () => choose(lanes.get(lane.name), lane.marks[0]?.index, true), {
            class: "link",
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

// ---- the transcript ------------------------------------------------------------------------------

let transcripts = 0;

/** Show what was said on a connection, and why rules fired or did not at one exchange. */
async function choose(lane, index, go = false) {
  clearTimeout(hovering);
  if (!lane) return;
  const before = chosen;
  chosen = { name: lane.name, index };
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
      el("td", { class: "at" }, i ? "" : show(Math.max(0, one.at - (zero ?? 0)))),
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

// ---- items ---------------------------------------------------------------------------------------

function drawItems() {
  $("items-part").hidden = !items.length;
  const tones = { delivered: "good", duplicated: "bad", missing: "bad" };
  morph(
    $("items"),
    items.map((item) =>
      el(
        "li",
        {},
        button(
          [
            el("span", { class: `word ${tones[item.state] ?? "warn"}` }, item.state),
            " ",
            said(item.name),
            " ",
            el("span", { class: "dim" }, plural(item.tries.length, "try", "tries")),
          ],
          () => {
            chosenItem = chosenItem === item.name ? null : item.name;
            drawItems();
            follow();
          },
          { "aria-pressed": String(chosenItem === item.name), class: "pick", "data-focus": item.name },
        ),
      ),
    ),
  );
}

/** Draw a line through the tries of the item that is followed. */
function follow() {
  const thread = canvas?.querySelector(".thread"),
    item = items.find((one) => one.name === chosenItem);
  if (!thread) return;
  canvas.classList.toggle("following", Boolean(item));
  const rows = new Map([...lanes.values()].map((lane) => [lane.index, lane]));
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

// ---- the verdict ---------------------------------------------------------------------------------

function drawVerdict() {
  if (verdict?.outcome === "never connected") verdict = null;
  morph(
    $("outcome"),
    verdict ? [el("span", { class: `outcome ${TONES[verdict.outcome] ?? "warn"}` }, verdict.outcome)] : [],
  );
  morph($("copies"), verdict ? tools() : []);
  if (!verdict) return drawNoVerdict();
  verdict.marked = new Set();
  const of = (outcome) => verdict.verdicts.filter((one) => one.outcome === outcome);
  for (const one of of("broken")) for (const piece of one.evidence) verdict.marked.add(piece.index);
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
    said(verdict.result_in_words ?? "", "p", { class: "sentence" }),
    [...of("broken"), ...of("inconclusive")].map(card),
    rest("held", "Held"),
    rest("not exercised", "Not exercised by this run"),
  ]);
}

function drawNoVerdict() {
  const long = asking.verdict.wait() > SOON && lanes.size > 0;
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
  const at = Math.max(0, (piece.opened_at ?? piece.at) - (zero ?? 0));
  const reply = (piece.reply ?? "").split("\n").at(-1) || (piece.closed ? "closed" : "no reply");
  const words = `${piece.server} #${piece.connection} at ${show(at)}: ${piece.event === "closed" ? "the connection" : `${piece.request || piece.moment} → ${reply}`}`;
  return el(
    "li",
    {},
    button(
      said(words),
      () => {
        const lane = lanes.get(key(piece.server, piece.connection));
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
  const names = servers.map((one) => encodeURIComponent(one.name)).join(",");
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

/** Buttons that show what happened as something to keep. */
function copies(rule) {
  const all = [
    ["pytest", "pytest test", "py"],
    ["curl", "curl script", "sh"],
    ["toml", "scenario", "toml"],
  ];
  return [
    el("span", { class: "dim" }, "Copy as"),
    ...all.map(([format, words, suffix]) =>
      button(words, () => copy(format, words, suffix, rule), {
        "data-focus": `copy ${format} ${rule}`,
        "aria-label": rule ? `Copy ${rule} as ${words}` : null,
      }),
    ),
  ];
}

async function copy(format, words, suffix, rule) {
  const names = (format === "toml" ? servers.slice(0, 1) : servers)
    .map((one) => encodeURIComponent(one.name))
    .join(",");
  await act(async () => {
    const text = await call(
      `/v1/copy?format=${format}&server=${names}${rule ? `&rule=${encodeURIComponent(rule)}` : ""}`,
      { text: true },
    );
    $("copy-title").textContent = `As a ${words}`;
    $("copy-text").textContent = text;
    $("copy-save").href = `data:text/plain;charset=utf-8,${encodeURIComponent(text)}`;
    $("copy-save").download = `${format === "pytest" ? "test_notnow" : "notnow"}.${suffix}`;
    $("copy-go").textContent = "Copy";
    $("copy").showModal();
  });
}

async function toClipboard(text, pressed) {
  try {
    await navigator.clipboard.writeText(text);
    pressed.textContent = "Copied";
    announce("Copied", true);
  } catch {
    pressed.textContent = "Select it and copy by hand";
  }
}
$("copy-go").addEventListener("click", () => toClipboard($("copy-text").textContent, $("copy-go")));
document.addEventListener("click", (event) => {
  const pressed = event.target.closest("[data-copy]");
  if (pressed) toClipboard(pressed.dataset.copy, pressed);
  event.target.closest("[data-close]")?.closest("dialog").close();
});

// ---- servers -------------------------------------------------------------------------------------

function drawServers() {
  morph($("servers"), servers.length ? servers.map(serverCard) : [el("p", {}, "No server runs here any more.")]);
  $("clock").hidden = !servers.length;
  asOf = performance.now();
  tick();
}

let asOf = 0; // when the servers told the time of their clock

function tick() {
  if (!servers.length || document.hidden) return;
  const { now, speed } = servers[0];
  const pace = speed === 1 ? "" : speed ? `, ${speed} times as fast` : ", by hand";
  $("now").textContent = show(Math.floor(now + (speed * (performance.now() - asOf)) / 1000)) + pace;
}
setInterval(tick, 1000);

function serverCard(one) {
  const id = `server-${one.name}`,
    knobs = Object.entries(one.knobs)
      .map(([name, value]) => `${name} = ${value}`)
      .join(", ");
  const press = (words, path, done) =>
    button(words, () => act(() => call(of(one.name, path), { method: "POST" }), done), {
      "data-focus": `${one.name} ${path}`,
      "aria-label": `${words}: ${one.name}`,
    });
  return el(
    "article",
    { class: "card server", "aria-labelledby": id, "data-focus": one.name },
    el("h3", { id }, one.name, " ", el("span", { class: "level" }, one.protocol)),
    el("p", {}, el("b", {}, one.scenario), knobs ? said(` ${knobs}`, "span", { class: "dim" }) : ""),
    el(
      "p",
      {},
      "phase ",
      el("b", { class: "phase-name" }, one.phase),
      one.returns_in === null ? "" : ` for ${show(one.returns_in)} more`,
    ),
    el(
      "div",
      { class: "line" },
      el("code", {}, one.url),
      button("Copy", null, {
        "data-copy": one.url,
        "data-focus": one.url,
        "aria-label": `Copy the URL of ${one.name}`,
      }),
    ),
    el(
      "p",
      { class: "dim" },
      `${plural(one.connections, "connection")}, ${one.live} open, ${plural(one.exchanges, "exchange")}`,
    ),
    ruleList(one),
    el(
      "div",
      { class: "row tools" },
      button("Play…", () => openPlay(one), {
        "data-focus": `${one.name} play`,
        "aria-label": `Play a scenario on ${one.name}`,
      }),
      press("Next phase", "/next-phase", (found) => `${one.name} is in phase ${found.phase}`),
      press("Kick", "/kick", (found) => `${plural(found.kicked, "client")} cut off`),
      press("Reset", "/reset", `${one.name} has forgotten the past`),
      el(
        "a",
        {
          class: "button",
          href: of(one.name, "/journal.jsonl"),
          download: `${one.name}.jsonl`,
          "data-focus": `${one.name} journal`,
          "aria-label": `Journal of ${one.name}`,
        },
        "Journal",
      ),
      button("Stop", () => act(() => call(of(one.name), { method: "DELETE" }), `${one.name} is stopped`), {
        "data-focus": `${one.name} stop`,
        "aria-label": `Stop: ${one.name}`,
      }),
    ),
  );
}

function ruleList(one) {
  const found = rules.get(one.name) ?? [];
  if (!found.length) return el("p", { class: "dim" }, "No rule: it behaves well.");
  return el(
    "ul",
    { class: "rules" },
    found.map((rule) =>
      el(
        "li",
        { class: rule.phase === one.phase ? "now" : "" },
        el("span", {}, `${rule.when}: ${rule.does}`),
        rule.lines.length ? said(rule.lines[0], "code") : "",
        el(
          "span",
          { class: "dim" },
          rule.fired
            ? `fired ${times(rule.fired)}`
            : `not fired${rule.phase === one.phase ? "" : `, in phase ${rule.phase}`}`,
          rule.left === null ? "" : `, ${rule.left} left`,
          rule.fired
            ? ""
            : [
                " ",
                button("why?", () => whyNot(one, rule), {
                  class: "link",
                  "data-focus": `${one.name} ${one.scenario} ${rule.rule}`,
                  "aria-label": `Why has ${rule.rule} of ${one.name} not fired?`,
                }),
              ],
        ),
        rule.fired || !answers.has(`${one.name} ${one.scenario} ${rule.rule}`)
          ? ""
          : said(answers.get(`${one.name} ${one.scenario} ${rule.rule}`), "span", { class: "answer" }),
      ),
    ),
  );
}

const answers = new Map(); // server, scenario and rule -> why it has not fired

/** Say why a rule has not fired, at the last exchange that it looked at. */
async function whyNot(one, rule) {
  await act(
    async () => {
      answers.set(`${one.name} ${one.scenario} ${rule.rule}`, await reason(one.name, rule.rule));
      drawServers();
      return answers.get(`${one.name} ${one.scenario} ${rule.rule}`);
    },
    (found) => found,
  );
}

async function reason(name, path) {
  const page = await call(of(name, "/journal?event=exchange&last=true&limit=10"));
  for (const entry of page.entries.reverse()) {
    const why = (await call(of(name, `/exchanges/${entry.index}/why`)).catch(() => ({ rules: [] }))).rules.find(
      (found) => found.rule === path,
    );
    if (why) return `at the last ${entry.moment}: ${why.why}`;
  }
  return "none of the last exchanges was at its moment, in its phase";
}

$("clock").addEventListener("submit", (event) => {
  event.preventDefault();
  advance($("by").value);
});
$("clock").addEventListener("click", (event) => event.target.dataset.by && advance(event.target.dataset.by));

function advance(by) {
  act(
    () =>
      call("/v1/clock/advance", { method: "POST", body: { by, servers: servers.slice(0, 1).map((one) => one.name) } }),
    `Advanced by ${by}`,
  );
}
$("group")?.addEventListener("change", () => location.assign(`/?group=${encodeURIComponent($("group").value)}`));

// ---- playing a scenario --------------------------------------------------------------------------

let catalogue = null,
  playing = null,
  picked = null;

async function openPlay(server) {
  playing = server;
  picked = null;
  $("play-title").textContent = server ? `Play a scenario on ${server.name}` : "Start a server";
  $("play-go").textContent = server ? "Play" : "Start";
  $("play-problem").replaceChildren();
  $("chosen").replaceChildren();
  $("toml").value = "";
  $("play").showModal();
  $("search").focus();
  try {
    catalogue ??= (await call("/v1/scenarios")).scenarios;
    drawFound();
  } catch (error) {
    $("play-problem").replaceChildren(said(error.message));
  }
}
$("new").addEventListener("click", () => openPlay(null));
$("search").addEventListener("input", drawFound);

function drawFound() {
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = (catalogue ?? []).filter(
    (one) =>
      (!playing || one.protocol === playing.protocol) &&
      words.every((word) => `${one.name} ${one.summary}`.toLowerCase().includes(word)),
  );
  $("found-count").textContent = plural(found.length, "scenario");
  $("found").replaceChildren(
    ...found.map((one) =>
      el(
        "li",
        {},
        button([el("b", {}, one.name), el("span", {}, one.summary)], () => pick(one), {
          "aria-pressed": String(picked?.name === one.name),
          class: "pick",
        }),
      ),
    ),
  );
}

async function pick(one) {
  picked = one;
  drawFound();
  const details = await call(`/v1/scenarios/${one.name}`);
  if (picked !== one) return;
  const field = (knob) => [
    el(
      "label",
      { for: `knob-${knob.name}` },
      knob.name,
      knob.comment ? el("span", { class: "dim" }, ` ${knob.comment}`) : "",
    ),
    el("input", {
      id: `knob-${knob.name}`,
      "data-knob": knob.name,
      placeholder: String(knob.default),
      autocomplete: "off",
      spellcheck: "false",
    }),
  ];
  $("chosen").replaceChildren(
    el("h3", {}, one.name),
    el(
      "ol",
      { class: "phases" },
      details.phases.map((phase) =>
        el(
          "li",
          {},
          el("b", {}, phase.name),
          ` ${phase.ends}`,
          phase.rules.length
            ? el(
                "ul",
                {},
                phase.rules.map((rule) =>
                  el(
                    "li",
                    {},
                    `${rule.when}: ${rule.does} `,
                    rule.lines.length ? el("code", {}, safe(rule.lines[0])) : "",
                  ),
                ),
              )
            : "",
        ),
      ),
    ),
    details.knobs.length ? el("div", { class: "knobs" }, details.knobs.map(field)) : "",
  );
  $("chosen").scrollIntoView({ block: "nearest" });
}

/** A knob as the API takes it: numbers and truth values as such, everything else as text. */
function value(text) {
  try {
    const found = JSON.parse(text);
    return typeof found === "object" ? text : found;
  } catch {
    return text;
  }
}

$("play-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const knobs = Object.fromEntries(
    [...$("chosen").querySelectorAll("[data-knob]")]
      .filter((one) => one.value)
      .map((one) => [one.dataset.knob, value(one.value)]),
  );
  const toml = $("toml").value.trim();
  const body = toml ? { toml } : { scenario: picked?.name, knobs };
  if (!toml && !picked) return $("play-problem").replaceChildren("Choose a scenario first.");
  try {
    if (playing) await call(of(playing.name, "/scenario"), { method: "PUT", body });
    else await call("/v1/servers", { method: "POST", body: group ? { ...body, group } : body });
    $("play").close();
    announce(playing ? `${playing.name} plays ${picked?.name ?? "the scenario"}` : "The server is started", true);
    refreshSoon();
  } catch (error) {
    $("play-problem").replaceChildren(said(error.message));
  }
});

// ---- announcements -------------------------------------------------------------------------------

let news = {},
  spoke = 0;

function count(event) {
  if (event.moment === "connect") news.connections = (news.connections ?? 0) + 1;
  if (event.codes?.includes(421)) news.told = (news.told ?? 0) + 1;
  if (event.event === "phase") news.phase = `${event.server}: phase ${event.text}`;
}

/** Tell screen readers, politely: what was done at once, what happened now and then. */
function announce(words, now = false) {
  if (now) spoke = performance.now();
  $("live").textContent = safe(words);
}

setInterval(() => {
  const parts = [
    news.connections && plural(news.connections, "new connection"),
    news.told && `421 ${times(news.told)}`,
    news.phase,
  ].filter(Boolean);
  if (parts.length && performance.now() - spoke > SPEAK) {
    announce(parts.join(", "));
    news = {};
  }
}, SPEAK);

await asking.servers.now();
listen();
await asking.timeline.now();
if (JUDGING * entries() < PATIENCE) {
  await asking.verdict.now();
} else {
  drawVerdict(); // it says that this takes a while
  asking.verdict.soon();
}
