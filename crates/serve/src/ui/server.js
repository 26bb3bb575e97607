// What is asked of the server. A refusal is an Error with the server's own line.

import { recall } from "./store.js";

const headers = () => {
  const key = recall("sessionStorage", "key");
  return { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
};

async function answered(response) {
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  throw new Error(body?.error?.message ?? `the server has answered ${response.status}`);
}

export const model = async () =>
  (await (await answered(await fetch("/v1/models", { headers: headers() }))).json()).data[0];

export const picture = async (url) => {
  const body = JSON.stringify({ url });
  return (await answered(await fetch("/picture", { method: "POST", headers: headers(), body }))).json();
};

export const samples = async () =>
  (await (await answered(await fetch("/samples", { headers: headers() }))).json()).samples;

// Calls `heard` with each object of the stream.
export async function stream(request, signal, heard) {
  const body = JSON.stringify({ ...request, stream: true, stream_options: { include_usage: true } });
  const sent = fetch("/v1/chat/completions", { method: "POST", headers: headers(), body, signal });
  const reader = (await answered(await sent)).body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) throw new Error("the connection broke off");
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const data = event.split("\n").filter((line) => line.startsWith("data: "));
      if (!data.length) continue;
      const text = data.map((line) => line.slice(6)).join("\n");
      if (text === "[DONE]") return;
      const value = JSON.parse(text);
      if (value.error) throw new Error(value.error.message);
      heard(value);
    }
  }
}
