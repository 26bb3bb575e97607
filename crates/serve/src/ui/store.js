// Conversations are kept in this browser alone.

// What a browser that keeps nothing has to be told again with each page.
const here = new Map();

// Other programs that this machine has served at the same port share what a browser keeps of an address.
const named = (key) => `mm1.${key}`;

// `kind` is "localStorage" or "sessionStorage". A browser may refuse them by an error.
export function recall(kind, key) {
  try {
    return here.get(key) ?? window[kind].getItem(named(key));
  } catch {
    return null;
  }
}

export function note(kind, key, value) {
  here.set(key, value);
  try {
    window[kind].setItem(named(key), value);
  } catch {
    // It is known until the page is left.
  }
}

function open() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open("mm1", 1);
    request.onupgradeneeded = () => request.result.createObjectStore("talks", { keyPath: "id" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

async function ask(mode, work) {
  const base = await open();
  try {
    return await new Promise((resolve, reject) => {
      const request = work(base.transaction("talks", mode).objectStore("talks"));
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
  } finally {
    base.close();
  }
}

export const save = (talk) => ask("readwrite", (talks) => talks.put(talk));
export const remove = (id) => ask("readwrite", (talks) => talks.delete(id));
export const all = async () =>
  (await ask("readonly", (talks) => talks.getAll())).sort((a, b) => b.changed - a.changed);
