// The servers, their rules and their clock, with buttons that act on them.

import { call, group, of } from "./calls.js";
import { $, button, el, morph, plural, said, show, times } from "./elements.js";
import { known } from "./known.js";
import { act } from "./pacing.js";
import { openPlay } from "./play.js";

export function drawServers() {
  morph($("servers"), known.servers.length ? known.servers.map(serverCard) : [el("p", {}, "No server runs here any more.")]);
  $("clock").hidden = !known.servers.length;
  asOf = performance.now();
  tick();
}

let asOf = 0; // when the servers told the time of their clock

function tick() {
  if (!known.servers.length || document.hidden) return;
  const { now, speed } = known.servers[0];
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
  const found = known.rules.get(one.name) ?? [];
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
      call("/v1/clock/advance", { method: "POST", body: { by, servers: known.servers.slice(0, 1).map((one) => one.name) } }),
    `Advanced by ${by}`,
  );
}
$("group")?.addEventListener("change", () => location.assign(`/?group=${encodeURIComponent($("group").value)}`));
