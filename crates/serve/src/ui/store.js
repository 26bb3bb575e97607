// Conversations are kept in this browser alone.

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
