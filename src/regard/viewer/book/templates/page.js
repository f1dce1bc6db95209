"use strict";
// Lights the words of the source that a word of the translation looked at, and the other way round. The links of each
// segment stand in the page as JSON: per word [[back, word, weight], …], covered, own.
const links = JSON.parse(document.getElementById("links").textContent);
const readout = document.getElementById("readout");
const resting = readout.textContent;
const written = [...document.querySelectorAll("[data-t]")];
let pinned = null;

const place = (element, key) => element.dataset[key].split("-").map(Number);
const sourceOf = (segment, back, word) => document.querySelector(`[data-s="${segment - back}-${word}"]`);
const percent = (share) => `${Math.round(100 * share)} %`;

function clear() {
  for (const one of document.querySelectorAll(".lit, .asked")) {
    one.classList.remove("lit", "asked");
    one.style.removeProperty("--w");
  }
  readout.textContent = resting;
}

function light(element, weight) {
  element.classList.add("lit");
  element.style.setProperty("--w", Math.min(1, weight).toFixed(3));
}

function showWritten(element) {
  clear();
  const [segment, number] = place(element, "t");
  const [found, covered, own] = links[segment][number];
  element.classList.add("asked");
  const told = found.map(([back, word, weight]) => {
    const source = word < 0 ? null : sourceOf(segment, back, word);
    if (source) light(source, weight);
    const where = back === 0 ? "" : back === 1 ? " (segment before)" : ` (${back} segments before)`;
    return `${source ? source.textContent : "end of the text"}${where} ${percent(weight)}`;
  });
  readout.textContent = `${element.textContent} ← ${told.join(" · ") || "nothing"}`
    + ` — these cover ${percent(covered)} of what it looked at; ${percent(own)} is on its own segment`;
}

function showSource(element) {
  clear();
  const [segment, number] = place(element, "s");
  element.classList.add("asked");
  const told = [];
  for (const one of written) {
    const [of, index] = place(one, "t");
    for (const [back, word, weight] of links[of][index][0]) {
      if (of - back === segment && word === number) {
        light(one, weight);
        told.push([weight, `${one.textContent} ${percent(weight)}`]);
      }
    }
  }
  told.sort((a, b) => b[0] - a[0]);
  readout.textContent = `${element.textContent} → ${told.slice(0, 12).map((one) => one[1]).join(" · ") || "no word"}`;
}

const show = (element) => (element.dataset.t ? showWritten(element) : showSource(element));
const wordAt = (event) => event.target.closest("[data-t], [data-s]");

document.addEventListener("pointerover", (event) => {
  const word = wordAt(event);
  if (word && !pinned) show(word);
});
document.addEventListener("pointerout", (event) => {
  if (wordAt(event) && !pinned) clear();
});
document.addEventListener("click", (event) => {
  const word = wordAt(event);
  pinned = word === pinned ? null : word;
  if (pinned) show(pinned);
  else clear();
});
document.addEventListener("focusin", (event) => {
  if (event.target.dataset?.t) {
    pinned = null;
    show(event.target);
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    pinned = null;
    clear();
    return;
  }
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const at = written.indexOf(document.activeElement);
  if (at < 0 || !step || event.altKey || event.ctrlKey || event.metaKey) return;
  const next = written[at + step];
  if (!next) return;
  written[at].tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
  event.preventDefault();
});
if (written.length) written[0].tabIndex = 0;
