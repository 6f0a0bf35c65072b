// The page: takes pictures, hands them to the worker, shows its answers.
const MOST_BARS = 5;
const byId = (id) => document.getElementById(id);
const status = byId("status");
const cards = new Map();
let classes = [];
let last = 0;
let worker;

function made(tag, className = "", text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

const percent = (share) => `${(100 * share).toFixed(1)} %`;

function say(text, wrong = false) {
  status.textContent = text;
  status.classList.toggle("wrong", wrong);
}

async function begin() {
  say("Loading the model …");
  const told = await (await fetch("model.json", { cache: "no-cache" })).json();
  classes = told.class_names;
  describe(told);
  // A worker made from a blob keeps to this page's rules (CSP), which one from a file would not.
  const code = `import ${JSON.stringify(new URL("worker.js", location.href).href)};`;
  worker = new Worker(URL.createObjectURL(new Blob([code], { type: "text/javascript" })), { type: "module" });
  worker.onmessage = ({ data }) => take(data);
  worker.onerror = (event) => failed(event.message || "the browser refuses it");
  worker.postMessage({ model: new URL(told.model, location.href).href });
}

function failed(why) {
  say(`The model cannot be started: ${why}. It needs a browser of 2023 or later, and all files of its folder.`, true);
}

function describe(told) {
  document.title = `${told.name}: what is in the picture?`;
  const list = byId("classes");
  list.append(`The model ${told.name} tells ${classes.length} classes apart: `);
  classes.slice(0, 20).forEach((name, index) => list.append(...(index ? [", "] : []), made("b", "", name)));
  list.append(classes.length > 20 ? ` and ${classes.length - 20} more.` : ".");
  byId("scores").append(...[...told.scores, told.limits].map((sentence) => made("li", "", sentence)));
  for (const [term, text] of Object.entries(told.facts)) byId("facts").append(made("dt", "", term), made("dd", "", text));
  byId("about").hidden = false;
}

function take(data) {
  if (data.ready) {
    document.documentElement.dataset.ready = "yes";
    count();
  } else if (data.failed) {
    failed(data.failed);
  } else if (cards.has(data.id)) {
    show(cards.get(data.id), data);
    cards.delete(data.id);
    count();
  } // else it was cleared meanwhile
}

/** Says how many pictures are still waiting. */
function count() {
  if (document.documentElement.dataset.ready !== "yes") return;
  const waiting = cards.size;
  const [done, wrong] = ["label", "wrong"].map((what) => document.querySelectorAll(`.answer[data-${what}]`).length);
  const labelled = `${done} ${done === 1 ? "picture" : "pictures"} labelled${wrong ? `, ${wrong} not read` : ""}.`;
  say(waiting ? `${waiting} to go …` : done || wrong ? labelled : "The model is ready.");
}

function add(files) {
  for (const file of files) {
    const card = made("li", "answer");
    card.dataset.name = file.name;
    const frame = made("div", "frame", "…");
    frame.setAttribute("aria-hidden", "true");
    const words = made("div");
    words.append(made("p", "name", file.name), made("h3", "", "Waiting"));
    card.append(frame, words);
    byId("answers").prepend(card);
    cards.set(++last, card);
    worker?.postMessage({ id: last, file });
  }
  byId("clear").hidden = false;
  count();
}

function show(card, { wrong, probabilities, width, height, reduced, thumbnail }) {
  const [frame, words] = card.children;
  if (wrong) {
    card.classList.add("wrong");
    card.dataset.wrong = wrong;
    frame.textContent = "✕";
    words.lastChild.textContent = wrong;
    return;
  }
  const order = probabilities.map((_, index) => index).sort((a, b) => probabilities[b] - probabilities[a]);
  const best = order[0];
  card.dataset.label = classes[best];
  card.dataset.probabilities = JSON.stringify(probabilities);
  const canvas = made("canvas");
  [canvas.width, canvas.height] = [thumbnail.width, thumbnail.height];
  canvas.getContext("bitmaprenderer").transferFromImageBitmap(thumbnail);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", card.dataset.name);
  frame.removeAttribute("aria-hidden");
  frame.replaceChildren(canvas);
  words.lastChild.replaceChildren(`${classes[best]} `, made("span", "", percent(probabilities[best])));
  const bars = made("ul", "bars");
  for (const index of order.slice(0, MOST_BARS)) {
    const bar = made("li");
    const track = made("div", "track");
    const fill = made("div", "fill");
    fill.style.width = `${100 * probabilities[index]}%`;
    track.setAttribute("aria-hidden", "true");
    track.append(fill);
    bar.append(made("span", "class", classes[index]), made("span", "share", percent(probabilities[index])), track);
    bars.append(bar);
  }
  words.append(bars);
  if (reduced) words.append(made("p", "note", `${width}×${height} pixels, reduced to ${reduced.join("×")} before the model saw it.`));
}

byId("choose").addEventListener("click", () => byId("files").click());
byId("files").addEventListener("change", ({ target }) => {
  add(target.files);
  target.value = ""; // so that the same file can be chosen again
});
byId("clear").addEventListener("click", () => {
  byId("answers").replaceChildren();
  cards.clear();
  byId("clear").hidden = true;
  count();
  byId("choose").focus();
});

addEventListener("paste", ({ clipboardData }) => {
  if (clipboardData.files.length) add(clipboardData.files);
  else say("There is no picture on the clipboard.");
});
let inside = 0; // what is entered and not left: each element tells of both
addEventListener("dragenter", () => byId("drop").classList.toggle("over", ++inside > 0));
addEventListener("dragleave", () => byId("drop").classList.toggle("over", --inside > 0));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  inside = 0;
  byId("drop").classList.remove("over");
  if (event.dataTransfer.files.length) add(event.dataTransfer.files);
  else say("That was no file; drop pictures from this machine.");
});

begin().catch((error) => failed(error.message));
