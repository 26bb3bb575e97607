// A conversation: messages, each an answer to its parent. An edited or repeated one is a sibling of the first,
// so nothing that was said is lost.

// `randomUUID` is there for pages of this machine and of https alone.
const name = () =>
  [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

export function empty() {
  return { id: name(), changed: Date.now(), system: "", nodes: [], leaf: null };
}

// `parts` are text and pictures, in order, as OpenAI writes them.
export function add(talk, parent, role, parts) {
  const node = { number: talk.nodes.length, parent, role, parts, about: {} };
  talk.nodes.push(node);
  talk.leaf = node.number;
  talk.changed = Date.now();
  return node;
}

// The messages from the first to the one that is shown last.
export function path(talk, leaf = talk.leaf) {
  const nodes = [];
  for (let at = leaf; at !== null; at = talk.nodes[at].parent) nodes.unshift(talk.nodes[at]);
  return nodes;
}

export function siblings(talk, node) {
  return talk.nodes.filter((other) => other.parent === node.parent && other.role === node.role);
}

// Shows a sibling, with what came of it last.
export function choose(talk, node) {
  let leaf = node;
  for (;;) {
    const children = talk.nodes.filter((other) => other.parent === leaf.number);
    if (!children.length) break;
    leaf = children[children.length - 1];
  }
  talk.leaf = leaf.number;
}

export function text(node) {
  return node.parts.filter((part) => part.type === "text").map((part) => part.text).join("");
}

export function pictures(node) {
  return node.parts.filter((part) => part.type === "image_url").map((part) => part.image_url.url);
}

// As the server takes it, and as `mm1` reads it for training.
export function messages(talk, nodes) {
  const system = talk.system.trim() ? [{ role: "system", content: talk.system }] : [];
  const message = ({ role, parts }) =>
    ({ role, content: role === "assistant" ? parts.map((part) => part.text).join("") : parts });
  return system.concat(nodes.map(message));
}

export function title(talk) {
  const first = talk.nodes.find((node) => node.role === "user");
  return (first && (text(first).trim() || "Pictures")) || "New conversation";
}
