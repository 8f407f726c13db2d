// What happened as something to keep, and the clipboard.

import { call } from "./calls.js";
import { $, button, el } from "./elements.js";
import { known } from "./known.js";
import { announce } from "./news.js";
import { act } from "./pacing.js";

/** Buttons that show what happened as something to keep. */
export function copies(rule) {
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
  const names = (format === "toml" ? known.servers.slice(0, 1) : known.servers)
    .map((one) => encodeURIComponent(one.name))
    .join(",");
  await act(async () => {
    const text = await call(
      `/v1/copy?format=${format}&server=${names}${rule ? `&rule=${encodeURIComponent(rule)}` : ""}`,
      { text: true },
    );
    $("copy-title").textContent = `As a ${words}${format === "toml" && known.servers.length > 1 ? `: ${known.servers[0].name}` : ""}`;
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
