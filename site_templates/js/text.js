// How text and numbers are written.

const LINE_MARKS = new Map([["\n", "↵"], ["\t", "⇥"], ["\r", "␍"], ["\u007f", "␡"], ["\u00ad", "-"]]);
// Characters that cannot be seen or that turn the text around: controls, joiners' kin, line separators, bidi controls.
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]/u;

function markFor(letter) {
  const code = letter.codePointAt(0);
  if (LINE_MARKS.has(letter)) return LINE_MARKS.get(letter);
  if (code < 0x20) return String.fromCodePoint(0x2400 + code);
  return `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
}

/**
 * Return nodes that read exactly as `text` when copied, with a visible mark over every character that is not seen, and
 * over spaces: all if `spaces`, else those of a text that has nothing else.
 */
function visible(text, spaces = false) {
  const marked = spaces || /^ +$/.test(text);
  if (!marked && !UNSEEN.test(text)) return [text];
  const nodes = [];
  let plain = "";
  const mark = (letter, attributes) => {
    if (plain) nodes.push(plain);
    plain = "";
    nodes.push(element("span", attributes, letter));
  };
  for (const letter of text) {
    if (marked && letter === " ") mark(letter, { class: "space" });
    else if (UNSEEN.test(letter)) mark(letter, { class: "mark", "data-mark": markFor(letter) });
    else plain += letter;
  }
  if (plain) nodes.push(plain);
  return nodes;
}

/** Return a number with four digits, for reading. */
function short(value) {
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size < 1e-3 || size >= 1e6) return value.toExponential(2).replaceAll("-", "−");
  return (size >= 1e4 ? String(Math.round(value)) : value.toPrecision(4)).replace("-", "−");
}

/** Return a share as a percentage of up to three digits. */
function percent(share) {
  return `${Number((100 * share).toPrecision(3))} %`;
}

/** Return [value, how often it comes] of some values, the most frequent first. */
function mostFrequent(values) {
  const counts = new Map();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].sort(([, one], [, other]) => other - one);
}

function count(value) {
  return String(value).replace(/\B(?=(\d{3})+$)/g, ","); // the locale's own way takes 30 ms the first time
}

/** Return a value of an array; a float32 as the number with its shortest decimal form (0.1, not 0.10000000149). */
function exact(values, place) {
  const value = values[place];
  if (!(values instanceof Float32Array)) return value;
  for (let digits = 1; digits < 9; digits += 1) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return short;
  }
  return Number(value.toPrecision(9));
}
