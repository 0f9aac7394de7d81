"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const root = document.documentElement;

const charts = new Charts(data, (frame) => player.seek(frame));
const player = new Player(byId("stage"), data, showFrame, (playing) => byId("play").classList.toggle("playing", playing));

function showFrame(frame) {
  byId("frame").value = frame;
  byId("counter").textContent = `${frame + 1} / ${player.frames}`;
  const metric = byId("metric").value;
  for (const row of data.rows) {
    const figure = data.figures[metric]?.[row.name]?.[player.video]?.[frame];
    const text = figure == null ? "" : `${figure.toFixed(data.metrics[metric].digits)} ${data.metrics[metric].unit}`;
    byId("stage").querySelector(`[data-row="${row.key}"] .now`).textContent = text;
  }
  charts.mark(frame);
}

function showVideo(video) {
  byId("prompt").value = video;
  byId("frame").max = data.videos[video].frames - 1;
  for (const strip of document.querySelectorAll(".strip")) {
    const clip = data.rows.find((row) => row.key === strip.dataset.row).clips[video];
    strip.querySelector("img").src = clip.strip;
  }
  charts.plotFrames(byId("metric").value, video);
  player.show({ video });
}

function showPair(pair) {
  player.show(pair);
  byId("left").value = player.left;
  byId("right").value = player.right;
  for (const strip of document.querySelectorAll(".strip")) {
    strip.classList.toggle("shown", [player.left, player.right].includes(strip.dataset.row));
  }
}

// Player
byId("prompt").addEventListener("change", (event) => showVideo(Number(event.target.value)));
byId("left").addEventListener("change", (event) => showPair({ left: event.target.value }));
byId("right").addEventListener("change", (event) => showPair({ right: event.target.value }));
for (const choice of document.getElementsByName("mode")) {
  choice.addEventListener("change", () => player.show({ mode: choice.value }));
}
byId("play").addEventListener("click", () => player.toggle());
byId("back").addEventListener("click", () => player.seek(player.frame - 1));
byId("forward").addEventListener("click", () => player.seek(player.frame + 1));
byId("frame").addEventListener("input", (event) => player.seek(Number(event.target.value)));
byId("speed").addEventListener("change", (event) => player.accelerate(Number(event.target.value)));
byId("gain").addEventListener("change", (event) => player.amplify(Number(event.target.value)));
byId("wipe").addEventListener("input", (event) => player.wipe(event.target.value));
byId("metric").addEventListener("change", (event) => {
  charts.plotFrames(event.target.value, player.video);
  showFrame(player.frame);
});

// Dragging anywhere on the picture wipes; the range input is there for the keyboard.
function drag(event) {
  if (player.mode !== "wipe" || (event.type === "pointermove" && !event.buttons)) return;
  const { left, width } = byId("stage").getBoundingClientRect();
  byId("wipe").value = Math.max(0, Math.min(100, (100 * (event.clientX - left)) / width));
  player.wipe(byId("wipe").value);
}
byId("stage").addEventListener("pointerdown", (event) => {
  byId("stage").setPointerCapture(event.pointerId);
  drag(event);
});
byId("stage").addEventListener("pointermove", drag);

document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, select, textarea") && event.key !== "," && event.key !== ".") return;
  if (event.key === " " && !event.target.matches("button, summary, a")) {
    event.preventDefault();
    player.toggle();
  }
  if (event.key === ",") player.seek(player.frame - 1);
  if (event.key === ".") player.seek(player.frame + 1);
});

// Strips and the table of prompts lead to the player.
for (const strip of document.querySelectorAll(".strip")) {
  strip.querySelector("button").addEventListener("click", (event) => {
    const row = data.rows.find((it) => it.key === strip.dataset.row);
    if (row.role !== "reference") showPair({ right: row.key });
    const { left, width } = event.currentTarget.getBoundingClientRect();
    const numbers = row.clips[player.video].strip_frames;
    // A click of the keyboard has no place.
    const part = event.detail ? Math.floor((numbers.length * (event.clientX - left)) / width) : 0;
    player.seek(numbers[Math.max(0, Math.min(numbers.length - 1, part))]);
  });
}
for (const button of document.querySelectorAll("[data-watch]")) {
  button.addEventListener("click", () => {
    showVideo(Number(button.dataset.watch));
    byId("watch").scrollIntoView();
  });
}

// Theme and language
const isDark = () => (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
byId("theme").addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  charts.draw();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.draw());
byId("language").addEventListener("click", () => {
  root.lang = root.lang.startsWith("zh") ? "en" : "zh-Hans";
  charts.draw();
});
if (navigator.language.startsWith("zh")) root.lang = "zh-Hans";

const best = data.rows.find((row) => row.name === data.best) ?? data.rows.at(-1);
player.left = data.rows[0].key;
player.right = best.key;
showVideo(0);
showPair({});
charts.draw();
