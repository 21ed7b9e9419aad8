// Opens the parts of the page's data (written by `site/columns.py`): columns, shuffled bytes, gzip, base64.
// A part stands in the page, or in a script beside it that calls `loradashPart` when it is loaded.

const ARRAYS = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, i1: Int8Array, i2: Int16Array, i4: Int32Array, f4: Float32Array, f8: Float64Array };
const arrivals = new Map(); // part that is being loaded -> what takes its text

globalThis.loradashPart = (name, text) => arrivals.get(name)?.(text);

const ahead = new Map(); // parts that were opened before anyone asked for them

/** Begin to open parts that will be needed soon, all at once. */
function openAhead(names) {
  for (const name of names.filter((each) => byId(`part-${each}`))) {
    ahead.set(name, readPart(name));
    ahead.get(name).catch(() => {}); // whoever asks for it is told
  }
}

/** Return the part `name`: its header's fields, and its arrays by name. Throws Error for one that cannot be loaded. */
function openPart(name) {
  const begun = ahead.get(name);
  ahead.delete(name);
  return begun ?? readPart(name);
}

async function readPart(name) {
  const place = byId(`part-${name}`) ?? await laterPart(name);
  const text = place.dataset.file ? await loadFile(name, place.dataset.file) : place.textContent;
  return unpack(await inflate(fromBase64(text)));
}

/** Return the place of a part that the browser has not read yet: the page is at work before all of it is there. */
async function laterPart(name) {
  if (document.readyState === "loading") await new Promise((done) => document.addEventListener("DOMContentLoaded", done, { once: true }));
  return byId(`part-${name}`);
}

/** Load the script that brings a part: from `file://` a page may load nothing else. */
function loadFile(name, address) {
  return new Promise((resolve, reject) => {
    const script = element("script");
    arrivals.set(name, resolve);
    script.onload = () => { script.remove(); reject(new Error(`${address} is damaged`)); };
    script.onerror = () => { script.remove(); reject(new Error(`${address} is missing: it belongs to this page, so keep them together, or build again`)); };
    script.src = filePolicy().createScriptURL(address);
    document.head.append(script);
  });
}

let policy; // made once: its name is used up
function filePolicy() {
  const checked = (address) => {
    if (!/^(?!\.\.?\/)[^/:?#\\]+\/[a-z0-9-]+\.js$/.test(address)) throw new TypeError(`not a data file: ${address}`);
    return address;
  };
  policy ??= globalThis.trustedTypes?.createPolicy("loradash", { createScriptURL: checked }) ?? { createScriptURL: checked };
  return policy;
}

function fromBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let place = 0; place < letters.length; place += 1) bytes[place] = letters.charCodeAt(place);
  return bytes;
}

async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function unpack(bytes) {
  const start = 4 + new DataView(bytes.buffer).getUint32(0, true);
  const { arrays, ...header } = JSON.parse(new TextDecoder().decode(bytes.subarray(4, start)));
  let place = start;
  for (const [name, kind, size] of arrays) {
    header[name] = new ARRAYS[kind](size);
    unshuffle(bytes.subarray(place, place += header[name].byteLength), header[name]);
  }
  return header;
}

/** Fill an array from its bytes, all first ones before all second ones. What a page opens first has one or two for each value. */
function unshuffle(bytes, made) {
  const [width, size] = [made.BYTES_PER_ELEMENT, made.length];
  const into = new (width === 2 ? Uint16Array : Uint8Array)(made.buffer);
  if (width === 1) into.set(bytes);
  else if (width === 2) for (let place = 0; place < size; place += 1) into[place] = bytes[place] | (bytes[size + place] << 8);
  else for (let from = 0, byte = 0; byte < width; byte += 1) for (let to = byte; to < into.length; to += width) into[to] = bytes[from++];
}
