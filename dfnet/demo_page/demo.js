"use strict";
const at = (id) => document.getElementById(id);
const frame = at("frame"), picture = at("picture"), cross = at("cross"), stop = at("stop");
const FIRST = 0.7, LAST = 16, STEP = 16;
let wish = {}, waiting = null, running = false, shown = "wide.png", alt = picture.alt, place = null;

const fStop = () => FIRST * (LAST / FIRST) ** (stop.value / 1000);
const showStop = () => { at("stop-shown").textContent = "f/" + fStop().toFixed(1); };

// One request at a time; of those asked for meanwhile only the latest is sent.
async function ask(query, words) {
  waiting = [query, words];
  if (running) return;
  running = true;
  while (waiting) {
    const [next, text] = waiting;
    waiting = null;
    at("status").textContent = "Computing: " + text;
    frame.setAttribute("aria-busy", "true");
    await show(next, text);
  }
  running = false;
  frame.setAttribute("aria-busy", "false");
}

async function show(query, text) {
  try {
    const answer = await fetch("picture?" + new URLSearchParams(query));
    if (!answer.ok) throw new Error(await answer.text());
    if (shown.startsWith("blob:")) URL.revokeObjectURL(shown);
    shown = URL.createObjectURL(await answer.blob());
    alt = "The picture, " + text;
    picture.src = shown;
    picture.alt = alt;
    await picture.decode();
    at("error").hidden = true;
    at("status").textContent = text;
  } catch (error) {
    at("error").textContent = error.message === "Failed to fetch"
      ? "The demo's server does not answer. Start it again." : error.message;
    at("error").hidden = false;
    at("status").textContent = "";
  }
}

function send() {
  const stopped = "f/" + fStop().toFixed(1);
  if (wish.target) return ask(wish, "all in focus");
  const query = { ...wish, f_stop: fStop().toFixed(3) };
  if (wish.tilt_shift) return ask(query, "tilt-shift at " + stopped);
  return ask(query, (wish.focus_at ? "focus at " + wish.focus_at : "focus as captured") + ", " + stopped);
}

function mark() {
  cross.hidden = !place;
  if (!place) return;
  cross.style.left = 100 * (place[0] + 0.5) / picture.naturalWidth + "%";
  cross.style.top = 100 * (place[1] + 0.5) / picture.naturalHeight + "%";
}

function focusAt(x, y) {
  const clamp = (v, n) => Math.max(0, Math.min(n - 1, Math.floor(v)));
  place = [clamp(x, picture.naturalWidth), clamp(y, picture.naturalHeight)];
  mark();
}

frame.addEventListener("click", (event) => {
  const box = picture.getBoundingClientRect();
  focusAt((event.clientX - box.left) / box.width * picture.naturalWidth,
    (event.clientY - box.top) / box.height * picture.naturalHeight);
  wish = { focus_at: place.join(",") };
  send();
});
frame.addEventListener("keydown", (event) => {
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const move = moves[event.key];
  if (!move && event.key !== "Enter") return;
  event.preventDefault();
  const [x, y] = place || [picture.naturalWidth / 2, picture.naturalHeight / 2];
  focusAt(x + STEP * (move ? move[0] : 0), y + STEP * (move ? move[1] : 0));
  if (!move) { wish = { focus_at: place.join(",") }; send(); }
});
stop.addEventListener("input", () => { showStop(); if (wish.target) wish = {}; send(); });
at("all").addEventListener("click", () => { wish = { target: "all-in-focus" }; send(); });
at("tilt").addEventListener("click", () => {
  const h = picture.naturalHeight;
  wish = { tilt_shift: [place ? place[1] : Math.floor(h / 2), Math.max(1, Math.floor(h / 8))].join(",") };
  send();
});
at("reset").addEventListener("click", () => {
  wish = {}; place = null; waiting = null; mark();
  shown = "wide.png"; alt = "The picture as it was captured";
  picture.src = shown; picture.alt = alt; at("status").textContent = "As captured";
});

const original = at("original");
function compare(on) {
  original.setAttribute("aria-pressed", String(on));
  picture.src = on ? "wide.png" : shown;
  picture.alt = on ? "The picture as it was captured" : alt;
}
original.addEventListener("pointerdown", () => compare(true));
for (const end of ["pointerup", "pointerleave", "pointercancel", "blur"]) {
  original.addEventListener(end, () => { if (original.getAttribute("aria-pressed") === "true") compare(false); });
}
original.addEventListener("keydown", (e) => { if ((e.key === " " || e.key === "Enter") && !e.repeat) compare(true); });
original.addEventListener("keyup", () => compare(false));

showStop();
fetch("about").then((answer) => answer.text()).then((text) => { at("about").textContent = text; });
