// Items: what clients were to get through.

import { $, button, el, morph, plural, said } from "./elements.js";
import { known } from "./known.js";
import { follow } from "./timeline.js";

export function drawItems() {
  $("items-part").hidden = !known.items.length;
  const tones = { delivered: "good", duplicated: "bad", missing: "bad" };
  morph(
    $("items"),
    known.items.map((item) =>
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
            known.chosenItem = known.chosenItem === item.name ? null : item.name;
            drawItems();
            follow();
          },
          { "aria-pressed": String(known.chosenItem === item.name), class: "pick", "data-focus": item.name },
        ),
      ),
    ),
  );
}
