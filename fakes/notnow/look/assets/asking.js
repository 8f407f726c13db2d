// What the page asks the API for: servers with their rules, the timeline, the verdict.

import { call, group, of } from "./calls.js";
import { drawItems } from "./items.js";
import { MOST, known, put } from "./known.js";
import { asking, paced, refreshSoon } from "./pacing.js";
import { drawServers } from "./servers.js";
import { draw } from "./timeline.js";
import { drawVerdict } from "./verdict.js";

export const JUDGING = 0.05,
  DRAWING = 0.02; // milliseconds for an exchange, until an answer has shown how long it takes

export const recent = []; // the events that have come since the timeline was asked for

export const entries = () => known.servers.reduce((sum, one) => sum + one.exchanges, 0);
asking.servers = paced(askServers);
asking.timeline = paced(askTimeline, () => DRAWING * entries());
asking.verdict = paced(askVerdict, () => JUDGING * entries());

document.addEventListener("visibilitychange", () => document.hidden || refreshSoon());

async function askServers() {
  known.servers = (await call("/v1/servers")).servers.filter((one) => one.group === group).slice(0, 50);
  if (!known.servers.length) return group ? nobody() : first();
  await Promise.all(known.servers.map(async (one) => known.rules.set(one.name, (await call(of(one.name, "/rules"))).rules)));
  drawServers();
}

async function askTimeline() {
  if (!known.servers.length) return;
  recent.length = 0;
  put(await call(`/v1/timeline?most=${MOST}&group=${encodeURIComponent(group)}`), recent);
  drawItems();
  draw();
}

async function askVerdict() {
  if (!known.servers.length) return;
  known.verdict = await call(`/v1/verdict?most=10&server=${known.servers.map((one) => encodeURIComponent(one.name)).join(",")}`);
  drawVerdict();
  known.stale = true;
  draw();
}

/** The first server was started while the page showed none. */
async function first() {
  if ((await call("/v1/servers")).servers.length) location.reload();
}

function nobody() {
  drawServers();
  known.lanes.clear();
  known.verdict = null;
  drawVerdict();
  draw();
}
