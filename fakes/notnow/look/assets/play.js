// The dialog that plays a scenario or starts a server.

import { call, group, of } from "./calls.js";
import { $, button, el, plural, safe, said } from "./elements.js";
import { announce } from "./news.js";
import { refreshSoon } from "./pacing.js";

let catalogue = null,
  playing = null,
  picked = null;

export async function openPlay(server) {
  playing = server;
  picked = null;
  $("play-title").textContent = server ? `Play a scenario on ${server.name}` : "Start a server";
  $("play-go").textContent = server ? "Play" : "Start";
  $("play-problem").replaceChildren();
  $("chosen").replaceChildren();
  $("toml").value = $("search").value = "";
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
  try {
    const details = await call(`/v1/scenarios/${one.name}`);
    if (picked === one) drawChosen(details);
  } catch (error) {
    $("play-problem").replaceChildren(said(error.message));
  }
}

/** The scenario that is picked, with a field for each knob. */
function drawChosen(details) {
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
    el("h3", {}, details.name),
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
