/** What a step found and made beside its words: tools that its provider ran, sources with their quotes, and files. */

import { label, make, visible } from "./text.js";

const DONE = { web_search: "Searched the web", web_fetch: "Read a page", file_search: "Searched files", code_execution: "Ran code", image_generation: "Drew a picture" };
const DOING = { web_search: "Searches the web", web_fetch: "Reads a page", file_search: "Searches files", code_execution: "Runs code", image_generation: "Draws a picture" };

/** An address that a link may lead to: whatever else a model names is text. */
const isWeb = (url) => /^https?:\/\//i.test(url ?? "");

const outside = (url, attributes, text) => make("a", { href: url, target: "_blank", rel: "noopener noreferrer", ...attributes }, text);

/** A file as a link: one of the demo's by its download, another by its address. */
export function fileLink(file, filesUrl) {
  const name = make("span", {}, visible(file.filename || file.url || file.media_type || "file"));
  const attributes = { class: "chip", "data-ac-file": file.file_id || file.url };
  if (file.file_id) return make("a", { ...attributes, href: `${filesUrl}${encodeURIComponent(file.file_id)}/`, download: "" }, name);
  return isWeb(file.url) ? outside(file.url, attributes, name) : make("span", attributes, name);
}

/** One quiet line: what the provider ran, what for, and whether it has come back. */
function providerLine({ name, arguments: given, done }, growing) {
  const asked = given?.query ?? given?.url;
  const what = (done ? DONE[name] : DOING[name]) ?? `${done ? "Ran" : "Runs"} ${label(name)}`;
  const state = done ? "done" : growing ? "running" : "open";
  const end = { done: "", running: " …", open: " (no answer came)" }[state];
  return make("p", { class: "provider-call", "data-ac-provider-call": name, "data-ac-state": state },
    what, ...(typeof asked === "string" && asked ? [": ", make("q", {}, visible(asked))] : []), end);
}

/** The sources, each once, with all that is quoted of it. */
function bySource(sources) {
  const found = new Map();
  for (const source of sources) {
    const key = JSON.stringify([source.url, source.document, source.title]);
    if (!found.has(key)) found.set(key, { ...source, quotes: [] });
    const { quotes } = found.get(key);
    if (source.quote && !quotes.includes(source.quote)) quotes.push(source.quote);
  }
  return [...found.values()];
}

function sourceItem({ title, url, quotes }) {
  const text = visible(title || url || "");
  return make("li", quotes.length ? { class: "quoted" } : {},
    isWeb(url) ? outside(url, { "data-ac-source": url }, text) : text,
    ...quotes.map((quote) => make("blockquote", { "data-ac-quote": "" }, visible(quote))));
}

/** A list that is drawn anew where what it shows has changed. */
class List {
  #drawn = "";

  constructor(node) { this.node = node; }

  update(items, draw) {
    const drawing = JSON.stringify(items);
    if (drawing !== this.#drawn) this.node.replaceChildren(...items.map(draw));
    this.#drawn = drawing;
    return items.length ? [this.node] : [];
  }
}

export class Findings {
  #ran = new List(make("div", { class: "provider-calls", "data-ac-provider-calls": "" }));
  #sources = new List(make("ul", { class: "sources", "data-ac-sources": "", "aria-label": "Sources" }));
  #files = new List(make("ul", { class: "chips", "data-ac-made-files": "", "aria-label": "Files" }));

  constructor(filesUrl) { this.filesUrl = filesUrl; }

  /** The nodes that stand before the words of a step: how its provider went about them. */
  before(step, growing) {
    const shown = step.providerCalls.map((call) => ({ ...call, result: null, growing })); // what came of it is the model's to tell
    return this.#ran.update(shown, (call) => providerLine(call, growing));
  }

  /** The nodes that stand behind them. */
  after(step) {
    return [
      ...this.#sources.update(bySource(step.sources), sourceItem),
      ...this.#files.update(step.files, (file) => make("li", {}, fileLink(file, this.filesUrl))),
    ];
  }
}

/** Whether a step has anything to show. */
export const showsSomething = (step) => Boolean(
  step.text || step.reasoning || step.sources.length || step.calls.length || step.files.length || step.providerCalls.length,
);
