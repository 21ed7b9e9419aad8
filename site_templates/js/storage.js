// What the browser keeps. Storage may be full or forbidden: then nothing is kept, and the caller is told.

function recall(name) {
  try {
    return JSON.parse(localStorage.getItem(name));
  } catch {
    return null;
  }
}

/** Keep `value`, or forget it if it is null; return whether that worked. */
function keep(name, value) {
  try {
    if (value === null) localStorage.removeItem(name);
    else localStorage.setItem(name, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

/** Return [rest of the name, value] of everything kept under names that begin with `prefix`. */
function recallAll(prefix) {
  try {
    return Object.keys(localStorage)
      .filter((name) => name.startsWith(prefix))
      .map((name) => [name.slice(prefix.length), recall(name)])
      .filter(([, value]) => value !== null);
  } catch {
    return [];
  }
}
