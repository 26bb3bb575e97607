// The page: what is shown, and what a person does.

import * as pictures from "./pictures.js";
import * as server from "./server.js";
import * as store from "./store.js";
import * as tree from "./tree.js";

const at = (id) => document.getElementById(id);
const make = (name, properties = {}) => Object.assign(document.createElement(name), properties);

let talk = tree.empty();
let model = null;
// Pictures of the next message.
let next = [];
// The message that is being answered.
let running = null;

const SETTINGS = ["temperature", "top_p", "min_p", "max_tokens", "logprobs", "attention"];

function request(nodes, again) {
  const value = (id) => Number(at(id).value);
  const log_probs = at("logprobs").checked;
  return {
    model: model?.id,
    messages: tree.messages(talk, nodes),
    temperature: value("temperature"),
    top_p: value("top_p"),
    min_p: value("min_p"),
    max_tokens: value("max_tokens"),
    // Another try is to be another answer.
    seed: again,
    ...(log_probs ? { logprobs: true, top_logprobs: 5 } : {}),
    ...(at("attention").checked ? { attention: true } : {}),
  };
}

// Answers the message `parent`.
async function answer(parent, again = 0) {
  const nodes = tree.path(talk, parent);
  const node = tree.add(talk, parent, "assistant", [{ type: "text", text: "" }]);
  const begun = performance.now();
  const control = new AbortController();
  running = { control, node };
  node.about = { tokens: [], attention: [] };
  show();
  try {
    await server.stream(request(nodes, again), control.signal, (event) => hear(node, event, begun));
  } catch (error) {
    if (control.signal.aborted) node.about.stopped = true;
    else node.about.error = error.message;
  }
  node.about.seconds = (performance.now() - begun) / 1000;
  running = null;
  show();
  await keep();
}

function hear(node, event, begun) {
  const choice = event.choices[0];
  if (event.usage) node.about.usage = event.usage;
  if (!choice) return;
  const text = choice.delta.content ?? "";
  if (text || choice.logprobs) node.about.first ??= (performance.now() - begun) / 1000;
  node.parts[0].text += text;
  if (choice.logprobs) node.about.tokens.push(...choice.logprobs.content);
  if (choice.attention) node.about.attention.push(...choice.attention);
  if (choice.finish_reason) node.about.finish = choice.finish_reason;
  draw(node);
}

async function keep() {
  try {
    await store.save(talk);
    await list();
  } catch (error) {
    at("model").textContent = `this browser keeps nothing: ${error.message}`;
  }
}

async function send() {
  const text = at("text").value.trim();
  if (running || (!text && !next.length)) return;
  talk.system = at("system").value;
  const shown = next.map((url) => ({ type: "image_url", image_url: { url } }));
  const node = tree.add(talk, talk.leaf, "user", [...shown, { type: "text", text }]);
  at("text").value = "";
  grow();
  next = [];
  showNext();
  await answer(node.number);
}

// ---- Messages

function show() {
  const main = at("talk");
  const nodes = tree.path(talk);
  main.replaceChildren(...nodes.map(view));
  if (!nodes.length) {
    const what = model?.mm1.sees ? "Drop a picture, and ask about it." : "Ask something.";
    main.append(make("p", { className: "empty", textContent: what }));
  }
  at("send").hidden = running !== null;
  at("stop").hidden = running === null;
  // A screen reader reads an answer once, when it is whole.
  main.setAttribute("aria-busy", String(running !== null));
  main.scrollTop = main.scrollHeight;
}

function view(node) {
  const message = make("article", { className: `message ${node.role}`, id: `message-${node.number}` });
  message.setAttribute("aria-label", node.role === "user" ? "You" : "Answer");
  fill(message, node);
  return message;
}

function draw(node) {
  const message = at(`message-${node.number}`);
  const main = at("talk");
  const below = main.scrollHeight - main.scrollTop - main.clientHeight < 40;
  if (message) fill(message, node);
  if (below) main.scrollTop = main.scrollHeight;
}

function fill(message, node) {
  const parts = [];
  const urls = tree.pictures(node);
  if (urls.length) {
    const shown = make("div", { className: "shown" });
    shown.append(...urls.map(pictures.figure));
    parts.push(shown);
  }
  const text = make("div", { className: "text" });
  if (node.about.tokens?.length && !node.about.error) {
    // A character may be spread over several tokens: it stands with the last of them.
    const decoder = new TextDecoder();
    const shown = ({ bytes }) => decoder.decode(new Uint8Array(bytes), { stream: true });
    text.append(...node.about.tokens.map((said, i) => token(said, shown(said), node, i)));
  }
  else text.textContent = tree.text(node) || (running?.node === node ? "…" : "");
  parts.push(text);
  message.classList.toggle("failed", Boolean(node.about.error));
  if (node.about.error) text.textContent = node.about.error;
  if (running?.node !== node) parts.push(footer(node));
  message.replaceChildren(...parts);
  message.onmouseenter = () => look(node, mean(node.about.attention));
  message.onmouseleave = () => look(node, null);
}

const mean = (rows) => rows?.length
  ? rows[0].map((_, i) => rows.reduce((sum, row) => sum + row[i], 0) / rows.length)
  : null;

// Shows on the pictures before an answer where it looked.
function look(node, weights) {
  if (!node.about.attention?.length) return;
  const before = tree.path(talk, node.parent).map((other) => at(`message-${other.number}`));
  pictures.heat(before.flatMap((message) => [...(message?.querySelectorAll("figure") ?? [])]), weights);
}

// A token in the colour of its probability, with the likeliest in its place.
function token({ token, logprob, top_logprobs }, shown, node, i) {
  const percent = (log) => `${(100 * Math.exp(log)).toFixed(1)} %`;
  const others = top_logprobs.map((top) => `${JSON.stringify(top.token)} ${percent(top.logprob)}`);
  const doubt = 1 - Math.exp(logprob);
  const span = make("span", {
    className: "token",
    textContent: shown,
    title: [`${JSON.stringify(token)} ${percent(logprob)}`, ...others].join("\n"),
  });
  if (node.about.attention?.[i]) {
    span.onmouseenter = () => look(node, node.about.attention[i]);
    span.onmouseleave = () => look(node, mean(node.about.attention));
  }
  span.style.backgroundColor = `rgb(230 120 0 / ${(0.55 * doubt).toFixed(3)})`;
  return span;
}

function footer(node) {
  const foot = make("footer");
  const button = (label, title, work) => {
    const made = make("button", { type: "button", textContent: label, title, onclick: work });
    made.setAttribute("aria-label", title);
    return made;
  };
  const family = tree.siblings(talk, node);
  if (family.length > 1) {
    const place = family.indexOf(node);
    const step = (by) => () => {
      tree.choose(talk, family[place + by]);
      show();
    };
    const back = button("‹", "The one before", step(-1));
    const on = button("›", "The next one", step(1));
    back.disabled = place === 0;
    on.disabled = place === family.length - 1;
    foot.append(back, `${place + 1}/${family.length}`, on);
  }
  foot.append(button("Copy", "Copy the text", () => copy(tree.text(node))));
  if (node.role === "user") foot.append(button("Edit", "Ask it otherwise", () => edit(node)));
  else foot.append(button("Again", "Another answer", () => again(node)));
  foot.append(make("span", { className: "said", textContent: measured(node.about) }));
  return foot;
}

function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  // Without https, pages of other machines have no clipboard but this.
  const field = make("textarea", { value: text });
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}

// "12 tokens, 31.0 tokens/s, first after 0.21 s"
function measured({ usage, first, seconds, stopped, finish }) {
  const said = [];
  if (usage) {
    const cached = usage.prompt_tokens_details.cached_tokens;
    said.push(`${usage.prompt_tokens} tokens read${cached ? ` (${cached} known)` : ""}`);
    said.push(`${usage.completion_tokens} made`);
    // Of fewer tokens it says more of the network than of the model.
    if (first && usage.completion_tokens > 8 && seconds > first) {
      said.push(`${((usage.completion_tokens - 1) / (seconds - first)).toFixed(1)} tokens/s`);
    }
  }
  if (first) said.push(`first after ${first.toFixed(2)} s`);
  if (finish === "length") said.push("cut at its longest");
  if (stopped) said.push("stopped");
  return said.join(", ");
}

function again(node) {
  if (running) return;
  answer(node.parent, tree.siblings(talk, node).length);
}

function edit(node) {
  if (running) return;
  const message = at(`message-${node.number}`);
  const text = make("textarea", { value: tree.text(node), rows: 3 });
  text.setAttribute("aria-label", "The message");
  const done = make("button", { type: "button", textContent: "Send" });
  const back = make("button", { type: "button", textContent: "Cancel", onclick: () => show() });
  done.onclick = () => {
    if (running) return;
    const shown = node.parts.filter((part) => part.type !== "text");
    const parts = [...shown, { type: "text", text: text.value.trim() }];
    answer(tree.add(talk, node.parent, "user", parts).number);
  };
  const foot = make("footer");
  foot.append(done, back);
  message.replaceChildren(text, foot);
  text.focus();
}

// ---- Pictures of the next message

async function take(files) {
  for (const file of files) {
    if (!file.type.startsWith("image/")) continue;
    try {
      next.push(await pictures.fromFile(file));
    } catch (error) {
      at("model").textContent = error.message;
    }
  }
  showNext();
}

function showNext() {
  at("pictures").replaceChildren(...next.map((url, i) => {
    const figure = pictures.figure(url);
    const away = make("button", { type: "button", textContent: "×", title: "Leave this picture out" });
    away.onclick = () => {
      next.splice(i, 1);
      showNext();
    };
    figure.append(away);
    return figure;
  }));
}

async function toggleSamples() {
  const place = at("samples");
  place.hidden = !place.hidden;
  if (place.hidden || place.childElementCount) return;
  for (const url of await server.samples()) {
    const image = make("img", { src: url, alt: "A sample picture", tabIndex: 0 });
    image.onclick = () => {
      next.push(url);
      place.hidden = true;
      showNext();
    };
    image.onkeydown = (event) => { if (event.key === "Enter") image.click(); };
    place.append(image);
  }
}

// ---- Conversations

async function list() {
  const talks = await store.all();
  at("list").replaceChildren(...talks.map((other) => {
    const item = make("li", { className: other.id === talk.id ? "open" : "" });
    const open = make("button", { textContent: tree.title(other) });
    open.onclick = () => {
      if (running) return;
      talk = other;
      at("system").value = talk.system;
      if (narrow()) unfold("menu", "conversations", false);
      show();
      list();
    };
    const away = make("button", { textContent: "×", title: "Forget this conversation" });
    away.setAttribute("aria-label", "Forget this conversation");
    away.onclick = async () => {
      // It would be kept again as soon as it is answered.
      if (running && other.id === talk.id) return;
      await store.remove(other.id);
      if (other.id === talk.id) begin();
      await list();
    };
    item.append(open, away);
    return item;
  }));
}

function begin() {
  if (running) return;
  talk = tree.empty();
  talk.system = at("system").value;
  show();
}

// A line that `mm1` reads as a training document.
function exportTalk() {
  const messages = tree.messages(talk, tree.path(talk));
  const file = new Blob([`${JSON.stringify({ messages })}\n`], { type: "application/jsonl" });
  const link = make("a", { href: URL.createObjectURL(file), download: "conversation.jsonl" });
  link.click();
  URL.revokeObjectURL(link.href);
}

// ---- Settings

function settings() {
  const kept = JSON.parse(store.recall("localStorage", "settings") ?? "{}");
  for (const id of SETTINGS) {
    const field = at(id);
    const key = field.type === "checkbox" ? "checked" : "value";
    if (id in kept) field[key] = kept[id];
    const tell = () => {
      const output = document.querySelector(`output[for="${id}"]`);
      if (output) output.textContent = field.value;
      const all = SETTINGS.map((id) => [id, at(id).type === "checkbox" ? at(id).checked : at(id).value]);
      store.note("localStorage", "settings", JSON.stringify(Object.fromEntries(all)));
    };
    field.oninput = tell;
    tell();
  }
  at("key").value = store.recall("sessionStorage", "key") ?? "";
  at("key").onchange = () => {
    store.note("sessionStorage", "key", at("key").value);
    meet();
  };
}

async function meet() {
  try {
    model = await server.model();
    const kind = model.mm1.tuned ? "" : ", not tuned on conversations";
    at("model").textContent = `${model.id}${kind}`;
    for (const id of ["pick", "camera", "sample"]) at(id).hidden = !model.mm1.sees;
  } catch (error) {
    at("model").textContent = error.message;
  }
  show();
}

function grow() {
  const text = at("text");
  text.style.height = "auto";
  text.style.height = `${text.scrollHeight + 2}px`;
}

function unfold(button, panel, open) {
  at(panel).hidden = !open;
  at(button).setAttribute("aria-expanded", String(open));
}

// On a phone both panels lie over the conversation, and one over the other.
const narrow = () => matchMedia("(max-width: 720px)").matches;

function fold(button, panel, other) {
  at(button).onclick = () => {
    if (narrow()) unfold(...other, false);
    unfold(button, panel, at(panel).hidden);
  };
}

// Other things than files are dropped too.
const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");

function listen() {
  const [left, right] = [["menu", "conversations"], ["settings", "drawer"]];
  fold(...left, right);
  fold(...right, left);
  at("new").onclick = () => {
    begin();
    if (narrow()) unfold(...left, false);
  };
  at("export").onclick = exportTalk;
  at("compose").onsubmit = (event) => { event.preventDefault(); send(); };
  at("stop").onclick = () => running?.control.abort();
  at("text").oninput = grow;
  at("text").onkeydown = (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  };
  at("pick").onclick = () => at("files").click();
  at("camera").onclick = () => at("shot").click();
  at("sample").onclick = toggleSamples;
  for (const id of ["files", "shot"]) {
    at(id).onchange = async () => {
      await take([...at(id).files]);
      at(id).value = "";
    };
  }
  document.onkeydown = (event) => {
    if (event.key !== "Escape" || at("viewer").open) return;
    unfold(...left, false);
    unfold(...right, false);
  };
  document.onpaste = (event) => {
    const files = [...event.clipboardData.files];
    if (!files.length) return;
    event.preventDefault();
    take(files);
  };
  document.ondragover = (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    at("drop").hidden = false;
  };
  document.ondragleave = (event) => { if (!event.relatedTarget) at("drop").hidden = true; };
  document.ondrop = (event) => {
    at("drop").hidden = true;
    if (!hasFiles(event)) return;
    event.preventDefault();
    take([...event.dataTransfer.files]);
  };
}

settings();
listen();
await meet();
await list().catch(() => {});
