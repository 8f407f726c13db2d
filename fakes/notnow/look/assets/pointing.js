// Marks of the timeline, by pointer and by keyboard.

import { $, el, said } from "./elements.js";
import { known } from "./known.js";
import { choose, chooseSoon, stay } from "./transcript.js";

$("lanes").addEventListener("keydown", (event) => {
  const here = event.target.closest(".mark");
  if (!here) return;
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    choose(known.lanes.get(here.dataset.lane), Number(here.dataset.index), true);
    return;
  }
  const marks = [...$("lanes").querySelectorAll(".mark")];
  const row = (one) => known.lanes.get(one.dataset.lane)?.row ?? 0;
  const there = {
    ArrowRight: () => marks[marks.indexOf(here) + 1],
    ArrowLeft: () => marks[marks.indexOf(here) - 1],
    ArrowDown: () => marks.find((one) => row(one) > row(here)),
    ArrowUp: () => marks.findLast((one) => row(one) < row(here)),
    Home: () => marks[0],
    End: () => marks.at(-1),
  }[event.key]?.();
  if (there) {
    event.preventDefault();
    here.setAttribute("tabindex", -1);
    there.setAttribute("tabindex", 0);
    there.focus();
  }
});

let tip = null;
const look = (event) => {
  const here = event.target.closest?.(".mark");
  stay();
  if (!here?.dataset.lane) return hideTip();
  showTip(here);
  const delay = event.type === "focusin" ? 60 : 250;
  chooseSoon(known.lanes.get(here.dataset.lane), Number(here.dataset.index), delay);
};
$("lanes").addEventListener("pointerover", look);
$("lanes").addEventListener("focusin", look);
$("lanes").addEventListener("focusout", () => hideTip());
$("lanes").addEventListener("click", (event) => {
  const here = event.target.closest(".mark");
  if (here?.dataset.lane) return choose(known.lanes.get(here.dataset.lane), Number(here.dataset.index), true);
  const lane = known.lanes.get(event.target.closest(".names li")?.dataset.lane);
  if (lane) choose(lane, lane.marks[0]?.index);
});
$("rows").addEventListener("click", (event) => {
  const lane = known.lanes.get(event.target.closest("button")?.dataset.lane);
  if (lane) choose(lane, lane.marks[0]?.index, true);
});

function showTip(here) {
  tip ??= document.body.appendChild(el("div", { class: "tip", "aria-hidden": "true" }));
  const box = here.getBoundingClientRect();
  tip.replaceChildren(said(here.getAttribute("aria-label")));
  tip.hidden = false;
  tip.style.left = `${Math.max(8, Math.min(box.left + box.width / 2 - tip.offsetWidth / 2, innerWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${box.top + scrollY - tip.offsetHeight - 8}px`;
}

function hideTip() {
  if (tip) tip.hidden = true;
}
