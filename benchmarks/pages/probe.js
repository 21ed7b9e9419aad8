// Measures a page from inside, before its own scripts run; `way` says how the page is worked (benchmarks/pages/ways.py).

const frame = () => new Promise(requestAnimationFrame);
const painted = async () => { await frame(); await frame(); };
const GIVEN_UP = 60_000; // milliseconds
const ready = () => document.body?.dataset.ready !== undefined;

/** Look at every `turn` whether the test holds. Throws after a minute. */
async function until(test, turn) {
  const started = performance.now();
  while (!test()) {
    if (performance.now() - started > GIVEN_UP) throw new Error(`It never holds: ${test}`);
    await turn();
  }
}

/** Milliseconds from the navigation until the first layer's tokens in sight are painted, and until "next" is answered as well. */
async function open() {
  await until(way.laidOut, frame);
  await painted();
  const shown = performance.now();
  await until(ready, frame);
  const before = way.layer();
  way.next();
  await until(() => way.layer() !== before, frame);
  await painted();
  return { painted: shown, usable: performance.now() };
}

/** Milliseconds of what `act` itself takes, until `done`, and until that is painted. */
async function timed(act, done) {
  const started = performance.now();
  act();
  const handled = performance.now() - started;
  await until(done, task);
  const drawn = performance.now() - started;
  await painted();
  return { handled, drawn, painted: performance.now() - started };
}

const channel = new MessageChannel();
const task = () => new Promise((next) => { channel.port1.onmessage = next; channel.port2.postMessage(0); });
const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

/** The same of so many steps to the next layer, `rest` milliseconds after the last, with the nodes that each leaves in the document. */
async function switches(times, rest = 300) {
  const found = [];
  for (let step = 0; step < times; step += 1) {
    await pause(rest);
    await settled();
    const before = way.layer();
    const figures = await timed(way.next, () => way.layer() !== before);
    await settled();
    found.push({ ...figures, nodes: nodes() });
  }
  return found;
}

/** Wait until what is out of sight is drawn as well. */
const settled = () => until(way.settled, frame);

/** The same of every keystroke of the queries. */
async function keystrokes(queries) {
  const found = [];
  for (const query of queries) {
    for (let length = 1; length <= query.length; length += 1) {
      await pause(100);
      const typed = query.slice(0, length);
      found.push({ ...await timed(() => way.type(typed), () => way.answered(typed)), nodes: nodes() });
    }
  }
  return found;
}

/** Milliseconds until something that takes no time is painted: the least that any of these can be. */
async function floor(times) {
  const found = [];
  for (let step = 0; step < times; step += 1) {
    await pause(100);
    found.push((await timed(() => {}, () => true)).painted);
  }
  return found;
}

/** Nodes in the document, texts included. */
function nodes() {
  const walker = document.createTreeWalker(document, NodeFilter.SHOW_ALL);
  let count = 1;
  while (walker.nextNode()) count += 1;
  return count;
}

/** By projection in view and polarity, every example: the activation as it is written, the tokens' texts joined. */
async function read() {
  await settled();
  return Object.fromEntries(way.columns().map((column) => [way.projection(column), {
    positive: examplesIn(column.querySelector(".panel.positive")),
    negative: examplesIn(column.querySelector(".panel.negative")),
  }]));
}

const examplesIn = (panel) => [...panel.querySelectorAll(way.example)].map((example) => [
  example.querySelector(".activation").textContent,
  [...example.querySelectorAll(".token")].map((token) => token.textContent).join(""),
]);

/** Whether all examples of the first layer are there, and those that begin in sight show their tokens. */
function inPlace(examples) {
  const inSight = [...examples].filter((example) => example.getBoundingClientRect().top < innerHeight);
  return examples.length >= way.examples && inSight.every((example) => example.querySelector(".token")?.getBoundingClientRect().height > 0);
}

const opened = open();
