// Announcements to screen readers.

import { $, plural, safe, times } from "./elements.js";

const SPEAK = 4000; // milliseconds between two announcements

let news = {},
  spoke = 0;

export function count(event) {
  if (event.moment === "connect") news.connections = (news.connections ?? 0) + 1;
  if (event.codes?.includes(421)) news.told = (news.told ?? 0) + 1;
  if (event.event === "phase") news.phase = `${event.server}: phase ${event.text}`;
}

/** Tell screen readers, politely: what was done at once, what happened now and then. */
export function announce(words, now = false) {
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
