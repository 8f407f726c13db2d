// The page of the control API. The server draws it once; from then on these modules keep it up to date: marks come straight
// from the stream of events, and everything else (waits, items, verdict, counts) from the API, a moment later.

import { JUDGING, entries } from "./asking.js";
import { asking } from "./pacing.js";
import { listen } from "./stream.js";
import { drawVerdict } from "./verdict.js";
import "./pointing.js";

const PATIENCE = 1000; // milliseconds that the first verdict may take without waiting for its turn

await asking.servers.now();
listen();
await asking.timeline.now();
if (JUDGING * entries() < PATIENCE) {
  await asking.verdict.now();
} else {
  drawVerdict(); // it says that this takes a while
  asking.verdict.soon();
}
