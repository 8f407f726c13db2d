// What the page knows: put together from the timeline of the API and the events that came since.

export const MOST = 200; // lanes that are drawn: of more connections, the first and the last
const MARKS = 2000; // marks that are drawn, shared out among the lanes: of more, the first and the last of each

export const known = {
  lanes: new Map(), // server#connection -> lane, in the order in which they came
  servers: [],
  rules: new Map(),
  phases: [],
  items: [],
  verdict: null,
  zero: null, // the time of the first connection
  latest: 0,
  leftOut: 0, // connections
  dropped: 0, // exchanges
  chosenItem: null, // the item that is followed
  chosen: null, // the exchange whose transcript is shown
  stale: true, // everything has to be drawn anew
};
export const dirty = new Set(); // the names of lanes that have changed

export const key = (server, connection) => `${server}#${connection}`;
export const mine = (server) => known.servers.some((one) => one.name === server);

/** Put an event of the stream into what is known. */
export function take(event) {
  if (event.event === "exchange" || event.event === "closed") {
    if (!mine(event.server)) return;
    known.zero ??= event.opened_at ?? event.at;
    const at = Math.max(0, event.at - known.zero);
    known.latest = Math.max(known.latest, at);
    const lane = laneOf(event, at);
    lane.end = Math.max(lane.end, at);
    if (event.event === "closed") lane.live = false;
    else mark(lane, event, at);
    dirty.add(lane.name);
  } else if (event.event === "phase" && mine(event.server) && known.zero !== null) {
    known.phases.push({ at: Math.max(0, event.at - known.zero), server: event.server, name: event.text });
    known.stale = true;
  }
}

function laneOf(event, at) {
  const name = key(event.server, event.connection);
  if (!known.lanes.has(name)) {
    const start = event.opened_at === undefined ? at : Math.max(0, event.opened_at - known.zero);
    known.lanes.set(name, {
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
    if (known.lanes.size > MOST) {
      known.lanes.delete([...known.lanes.keys()][MOST / 2]);
      known.leftOut += 1;
    }
    known.stale = true;
  }
  return known.lanes.get(name);
}

function mark(lane, event, at) {
  const facts = event.facts ?? {};
  const through = facts.type === "message" || "recipients" in facts ? facts.stored : facts.whole;
  const kind = event.refused ? (event.codes?.includes(421) ? "421" : "refused") : through ? "done" : null;
  if (kind === null) return;
  const reply = (event.reply ?? "").split("\n").at(-1) || (event.closed ? "closed without a reply" : "no reply");
  const text = kind === "done" ? event.request || event.moment : `${event.moment}: ${reply}`;
  const before = lane.marks.find((one) => one.index === event.index);
  if (before) Object.assign(before, { at, kind, text });
  else lane.marks.push({ index: event.index, at, kind, text });
  const most = Math.max(4, Math.floor(MARKS / known.lanes.size));
  if (lane.marks.length > most) lane.marks.splice(most / 2, lane.marks.length - most);
}

/** Take a timeline of the API in place of what is known, then the events that came while it was made. */
export function put(line, events) {
  known.lanes.clear();
  known.zero = line.lanes.length ? line.zero : null;
  known.latest = line.span;
  known.leftOut = line.left_out;
  for (const name of ["dropped", "phases", "items"]) known[name] = line[name];
  for (const lane of line.lanes)
    known.lanes.set(key(lane.server, lane.connection), { ...lane, name: key(lane.server, lane.connection) });
  known.stale = true;
  for (const event of events.filter((one) => one.event !== "phase")) take(event);
}
