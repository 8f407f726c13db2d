// The stream of events: marks come straight from it.

import { recent } from "./asking.js";
import { mine, take } from "./known.js";
import { count } from "./news.js";
import { refreshSoon, state } from "./pacing.js";
import { draw } from "./timeline.js";

const WAITING = 2000; // events that wait for a frame; beyond that, the page asks for everything anew
const FLOOD = 20,
  REST = 4; // events in one frame from which on the page rests after it, and how many times as long as it took

const queue = [];
let framed = false,
  tired = 0;

export function listen() {
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

export function work() {
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
