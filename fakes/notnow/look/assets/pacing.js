// When the page asks for more: soon after something has happened, and seldom enough for the server.

import { $, said } from "./elements.js";
import { known } from "./known.js";
import { announce } from "./news.js";

export const SOON = 250,
  LATE = 120_000; // milliseconds before the page asks for more: least and most
const SHARE = 25; // how many times as long as the last answer took it waits before it asks again
const QUICK = 20; // milliseconds that a first answer takes at least

export const asking = {}; // what the page asks for, each at its own pace

export function refreshSoon() {
  for (const one of Object.values(asking)) one.soon();
}

/** A function that does some work soon, and seldom enough that it takes a small part of the server's time. */
export function paced(work, expect = () => 0) {
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
      again ||= error.status === 503; // too many ask at the same time
      if (error instanceof TypeError) state("lost", "connecting again …");
      else if (known.servers.length) $("alert").replaceChildren(said(error.message, "p"));
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

export function state(kind, words) {
  $("state").dataset.state = kind;
  if ($("state-words").textContent !== words) $("state-words").textContent = words;
}

/** Do something for a click; say what went wrong, or what was done. */
export async function act(work, done) {
  try {
    const found = await work();
    $("alert").replaceChildren();
    if (done) announce(typeof done === "function" ? done(found) : done, true);
  } catch (error) {
    $("alert").replaceChildren(said(error.message, "p"));
  }
  refreshSoon();
}
