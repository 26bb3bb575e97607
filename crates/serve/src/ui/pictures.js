// Pictures that are to be sent: read as data addresses, and looked at.

import * as server from "./server.js";

const LONGEST = 2048;

const read = (file) => new Promise((resolve, reject) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result);
  reader.onerror = () => reject(new Error(`${file.name} can't be read`));
  reader.readAsDataURL(file);
});

const decoded = (url) => new Promise((resolve, reject) => {
  const image = new Image();
  image.onload = () => resolve(image);
  image.onerror = () => reject(new Error("that is no picture that this browser can show"));
  image.src = url;
});

// A picture of a camera is made smaller, and forms that the server may not know become PNG.
export async function fromFile(file) {
  const url = await read(file);
  const image = await decoded(url);
  const scale = Math.min(1, LONGEST / Math.max(image.naturalWidth, image.naturalHeight));
  if (scale === 1 && /^data:image\/(png|jpeg|webp|gif);/.test(url)) return url;
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(image.naturalWidth * scale));
  canvas.height = Math.max(1, Math.round(image.naturalHeight * scale));
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return file.type === "image/jpeg" ? canvas.toDataURL("image/jpeg", 0.92) : canvas.toDataURL("image/png");
}

// "64 × 48 pixels, 5 views, 80 tokens"
export function caption({ width, height, views, tokens }) {
  const cut = views > 1 ? `, ${views} views` : "";
  return `${width} × ${height} pixels${cut}, ${tokens} tokens`;
}

// What the server has said of pictures, by address: a conversation is drawn anew more often than it changes.
const known = new Map();

function asked(url) {
  if (!known.has(url)) {
    known.set(url, server.picture(url));
    // After a refusal it is asked again: there may be a key by then.
    known.get(url).catch(() => known.delete(url));
  }
  return known.get(url);
}

// A figure remembers what the server has said of its picture, for `heat`.
export function figure(url) {
  const figure = document.createElement("figure");
  const image = document.createElement("img");
  const about = document.createElement("figcaption");
  image.src = url;
  image.alt = "A picture of this message";
  figure.append(image, about);
  asked(url).then(
    (said) => {
      about.textContent = caption(said);
      image.onclick = () => view(url, said);
      image.onkeydown = (event) => {
        if (event.key !== "Enter") return;
        // Or the key would press the button that closes what it has opened.
        event.preventDefault();
        view(url, said);
      };
      image.tabIndex = 0;
      image.setAttribute("role", "button");
      image.title = "Show its tiles";
      figure.said = said;
    },
    (error) => { about.textContent = error.message; },
  );
  return figure;
}

// Lays over each picture how much its overview is looked at. `weights` are those of all image tokens, in the
// order of the figures; none takes the maps away.
export function heat(figures, weights) {
  let from = 0;
  const maps = figures.map((figure) => {
    if (!figure.said) return null;
    const { views, overview, view_tokens } = figure.said;
    const start = from + overview * view_tokens;
    from += views * view_tokens;
    return weights?.slice(start, start + view_tokens);
  });
  const most = Math.max(...maps.flatMap((map) => map ?? []), 1e-9);
  figures.forEach((figure, i) => {
    figure.querySelector(".heat")?.remove();
    const side = Math.sqrt(maps[i]?.length ?? 0);
    if (!side || !Number.isInteger(side)) return;
    const image = figure.querySelector("img");
    const canvas = Object.assign(document.createElement("canvas"), { className: "heat", width: side, height: side });
    const context = canvas.getContext("2d");
    maps[i].forEach((weight, token) => {
      context.fillStyle = `rgb(255 90 0 / ${(0.75 * weight / most).toFixed(3)})`;
      context.fillRect(token % side, Math.floor(token / side), 1, 1);
    });
    canvas.style.width = `${image.clientWidth}px`;
    canvas.style.height = `${image.clientHeight}px`;
    figure.append(canvas);
  });
}

// The picture with the lines along which it is cut.
function view(url, said) {
  const SVG = "http://www.w3.org/2000/svg";
  const tiled = document.createElement("div");
  const image = document.createElement("img");
  const svg = document.createElementNS(SVG, "svg");
  const lines = document.createElementNS(SVG, "path");
  tiled.className = "tiled";
  image.src = url;
  image.alt = "The picture, with its tiles";
  svg.setAttribute("viewBox", "0 0 1 1");
  svg.setAttribute("preserveAspectRatio", "none");
  const across = said.across.map((y) => `M0 ${y}H1`);
  const down = said.down.map((x) => `M${x} 0V1`);
  lines.setAttribute("d", [...across, ...down].join(""));
  svg.append(lines);
  tiled.append(image, svg);
  const about = document.createElement("p");
  about.textContent = caption(said);
  document.getElementById("viewed").replaceChildren(tiled, about);
  document.getElementById("viewer").showModal();
}
