// The page: a crowd's picture, the session as Redis holds it, a logout in a second tab.
// All text is set as text; nothing here makes HTML of what the server says.

const STORES = {
  none: ["smartredis_wsgi", 'lock="none"'],
  single: ["smartredis_wsgi", 'lock="single"'],
  redlock: ["smartredis_wsgi", 'lock="redlock"'],
  naive: ["session as one text", "naive"],
};
const REQUESTS = 50;
const LOOK_EVERY = 500; // ms

const $ = (selector, within = document) => within.querySelector(selector);

function made(name, attributes = {}, ...content) {
  const element = document.createElement(name);
  element.append(...content);
  return withAttributes(element, attributes);
}

function drawn(name, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  return withAttributes(element, attributes);
}

function withAttributes(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    element.setAttribute(name, value);
  }
  return element;
}

function say(text) {
  $("#said").textContent = text;
}

async function ask(path, options) {
  const answer = await fetch(path, options);
  if (!answer.ok) throw new Error(`${path} was answered with ${answer.status}`);
  return answer;
}

const post = (path) => ask(path, { method: "POST" });

// Runs what a button asks for, with the button off meanwhile.
async function during(button, act) {
  button.disabled = true;
  try {
    await act();
  } catch (failure) {
    say(`${failure.message}. Is the demo still running?`);
  } finally {
    button.disabled = false;
  }
}

// -- a crowd --------------------------------------------------------------------------

const seconds = (value) => `${value.toFixed(2)} s`;

// One store's part of the picture. All panels have the same axis.
class Panel {
  static longest = 0.5;

  constructor(store) {
    this.store = store;
    this.element = $("#panel").content.firstElementChild.cloneNode(true);
    this.element.id = `crowd-${store}`;
    const [kind, name] = STORES[store];
    this.name = name;
    $("h3", this.element).append(made("small", {}, kind), name);
    this.clear();
  }

  clear() {
    this.answers = [];
    this.kept = null;
    this.draw();
  }

  async run(work) {
    const answer = await post(`/crowd/${this.store}/${work}`);
    for await (const line of linesOf(answer.body)) {
      if ("kept" in line) this.kept = line.kept;
      else this.answers.push(line);
      requestAnimationFrame(() => this.draw());
    }
    this.draw();
  }

  get begun() {
    return Math.min(...this.answers.map((answer) => answer.arrived));
  }

  get lasted() {
    return Math.max(0, ...this.answers.map((answer) => answer.stored - this.begun));
  }

  // What was answered with success and is not there.
  get lost() {
    return this.answers.filter((answer) => answer.status < 300).length - this.kept;
  }

  draw() {
    const { element, kept, lost } = this;
    const isOver = kept !== null;
    const longestWait = Math.max(0, ...this.answers.map((a) => a.read - a.arrived));
    element.classList.toggle("loses", isOver && lost > 0);
    element.dataset.lost = isOver ? lost : "";
    $("strong", element).textContent = isOver ? kept : "\u2013"; // a dash
    $(".result span", element).textContent = isOver
      ? `kept, ${lost || "none"} lost`
      : `${this.answers.length} of ${REQUESTS} answered`;
    $(".figures", element).textContent = isOver
      ? `Longest wait ${seconds(longestWait)}, all done after ${seconds(this.lasted)}.`
      : "";
    this.drawSquares();
    this.drawBars();
    $(".bars", element).setAttribute("aria-label", isOver
      ? `Each request as a line of time: the longest waited ${seconds(longestWait)}; ` +
        `the last ended after ${seconds(this.lasted)}`
      : "No requests yet");
  }

  drawSquares() {
    const squares = [];
    for (let number = 0; number < REQUESTS; number += 1) {
      const x = (number % 25) * 10 + 1.5;
      const y = Math.floor(number / 25) * 10 + 1.5;
      const isKept = number < this.kept;
      const kind = this.kept === null ? "open" : isKept ? "kept" : "lost";
      squares.push(drawn("rect", { class: kind, x, y, width: 7, height: 7, rx: 1 }));
      if (kind === "lost") {
        squares.push(drawn("path", { class: kind, d: `M${x} ${y + 7}l7 -7` }));
      }
    }
    $(".squares", this.element).replaceChildren(...squares);
  }

  drawBars() {
    const scale = 1000 / Panel.longest;
    const { begun } = this;
    const inOrder = [...this.answers].sort((a, b) => a.read - b.read);
    const bars = inOrder.flatMap((answer, number) => {
      const [arrived, read, stored] = [answer.arrived, answer.read, answer.stored].map(
        (moment) => (moment - begun) * scale,
      );
      const place = { y: number * 3 + 1, height: 2 };
      const held = Math.max(stored - read, 4);
      return [
        drawn("rect", { class: "waited", x: arrived, width: read - arrived, ...place }),
        drawn("rect", { class: "held", x: read, width: held, ...place }),
      ];
    });
    $(".bars", this.element).replaceChildren(...bars);
    $(".axis span:last-child", this.element).textContent = seconds(Panel.longest);
  }
}

async function* linesOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) yield JSON.parse(line);
  }
}

const panels = Object.keys(STORES).map((store) => new Panel(store));
$("#panels").append(...panels.map((panel) => panel.element));

$("#crowd").addEventListener("submit", (event) => {
  event.preventDefault();
  during($("#crowd button"), async () => {
    const work = new FormData(event.target).get("work");
    panels.forEach((panel) => panel.clear());
    for (const panel of panels) {
      say(`${REQUESTS} requests to ${panel.name} \u2026`);
      await panel.run(work);
      const longest = Math.max(...panels.map((each) => each.lasted));
      Panel.longest = Math.ceil(longest * 4) / 4;
      panels.forEach((each) => each.draw());
    }
    const lost = panels.map((panel) => `${panel.lost} with ${panel.name}`);
    say(`Lost: ${lost.join(", ")}.`);
  });
});

// -- the session ----------------------------------------------------------------------

const seen = { keys: [], drawn: {} };
let now = { ours: [], naive: [], slow: 0 };

const isAlive = (record) => record.kind === "hash";
const isBack = (record) => record.kind === "string" && record.text !== "{}";

async function look() {
  const asked = new URLSearchParams(seen.keys.map((key) => ["seen", key]));
  now = await (await ask(`/now?${asked}`)).json();
  const alive = now.ours.filter(isAlive).map((record) => record.key);
  seen.keys = [...new Set([...alive, ...seen.keys])].slice(0, 2);
  draw("#ours", now.ours.filter(({ key }) => seen.keys.includes(key)), ourRecord);
  draw("#naive", now.naive, naiveRecord);
  $("#at-work").textContent = now.slow
    ? "A slow request has read the session and is still at work. Log out now."
    : "";
}

function draw(place, records, record) {
  const nothing = made("p", { class: "record key" }, "No session yet.");
  $(place).replaceChildren(...(records.length ? records.map(record) : [nothing]));
}

// Digests are long: their first characters tell one from another.
const short = (key) =>
  key.replace(/([0-9a-f]{4})[0-9a-f]{12}\}([0-9a-f]{8})[0-9a-f]{56}/g, "$1\u2026}$2\u2026");

function heading(record, what) {
  const ends = record.kind === "none" ? "" : `, expires in ${Math.ceil(record.left)} s`;
  const key = made("code", {}, short(record.key));
  return made("p", { class: "key" }, key, made("span", {}, what + ends));
}

// Marks what was not like this when it was drawn last.
function marked(element, name, value) {
  if (name in seen.drawn && seen.drawn[name] !== value) element.classList.add("fresh");
  seen.drawn[name] = value;
  return element;
}

function ourRecord(record) {
  const place = made("div", { class: "record" });
  if (isAlive(record)) {
    place.append(heading(record, "hash"), fieldsOf(record), metaOf(record));
  } else if (record.kind === "string") {
    const text = made("code", { class: "text tombstone" }, short(record.text));
    place.append(heading(record, "tombstone"), text);
  } else {
    place.append(heading(record, "nothing lies here"));
  }
  return place;
}

function fieldsOf(record) {
  const heads = ["field", "value", "bytes"];
  const head = heads.map((word) => made("th", { scope: "col" }, word));
  const rows = record.fields.map(({ name, value, bytes }) => {
    const cells = [
      made("th", { scope: "row", class: "value" }, name),
      made("td", { class: "value" }, value),
      made("td", {}, String(bytes)),
    ];
    return marked(made("tr", {}, ...cells), `ours ${name}`, value);
  });
  const top = made("thead", {}, made("tr", {}, ...head));
  return made("table", {}, top, made("tbody", {}, ...rows));
}

function metaOf({ meta }) {
  const created = new Date(Number(meta.created)).toLocaleTimeString();
  const version = made("span", {}, `version ${meta.version}`);
  marked(version, "version", meta.version);
  const rest = `incarnation ${meta.incarnation}, created ${created}, ${meta.size} bytes`;
  return made("p", { class: "meta" }, version, ", ", rest);
}

function naiveRecord(record) {
  const place = made("div", { class: "record" });
  if (record.kind === "none") {
    place.append(heading(record, "nothing lies here"));
  } else {
    const text = made("code", { class: "text value" }, record.text);
    place.append(heading(record, "string"), marked(text, "naive", record.text));
  }
  return place;
}

const actOnBoth = (act) =>
  Promise.all(["none", "naive"].map((store) => post(`/${store}/${act}`)));

for (const button of document.querySelectorAll("[data-act]")) {
  button.addEventListener("click", () => during(button, async () => {
    if (button.dataset.act === "logout") await logOut();
    else await actOnBoth(button.dataset.act);
    await look();
  }));
}

// -- a logout during a slow request ---------------------------------------------------

$("#slow").addEventListener("click", () => during($("#slow"), async () => {
  judge(null);
  if (!now.ours.some(isAlive)) await actOnBoth("login");
  await actOnBoth("slow/late");
  await look();
  if (now.ours.some(isAlive)) say("The slow request is done; nobody logged out.");
  else judge(now);
}));

async function logOut() {
  await look();
  const wasSlow = now.slow > 0;
  await actOnBoth("logout");
  await post("/goon"); // answered when what was slow is done
  await look();
  if (wasSlow) judge(now);
}

function judge(found) {
  const isHere = { ours: found?.ours.some(isAlive), naive: found?.naive.some(isBack) };
  for (const [store, back] of Object.entries(isHere)) {
    const word = $(`#verdict [data-store=${store}]`);
    word.textContent = back === undefined ? "?" : back ? "came back" : "stays out";
    word.className = back === undefined ? "" : back ? "bad" : "good";
  }
}

async function keepLooking() {
  try {
    if (!document.hidden) await look();
  } catch {
    say("The server does not answer. Is the demo still running?");
  }
  setTimeout(keepLooking, LOOK_EVERY);
}

keepLooking();
