/** Words and text of the case page: nothing here touches the network. */

// Everything that is not a mark on the screen, and what is called one and cannot be seen: fillers, joiners,
// blanks, variation selectors.  The same list as agentcore/jsontext.py; a backslash that would make typed text
// read like an escape belongs to it.  Two different texts must never look the same to the person who decides.
const UNSEEN =
  /\\(?=u\{)|(?! )[\p{C}\p{Z}\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\uffa0\ufe00-\ufe0f\u{e0100}-\u{e01ef}]/gu;
const TURNING = /[\u202a-\u202e\u2066-\u2069]/gu;

const escaped = (char) => `\\u{${char.codePointAt(0).toString(16).padStart(4, "0")}}`;

/** The text with every character that a reader cannot see written out as \u{…}. */
export const visible = (text) => String(text).replace(UNSEEN, escaped);

/** Written text as it is, but for what would re-order it: a bidi override or isolate is written out. */
export const readable = (text) => String(text).replace(TURNING, escaped);

/** One argument as an approver must read it: complete, on one line, nothing hidden. */
export const shown = (value) => visible(typeof value === "string" ? value : JSON.stringify(ordered(value)));

// A log keeps the order of an object's keys and a database may not; one order for both reads the same.
function ordered(value) {
  if (Array.isArray(value)) return value.map(ordered);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.keys(value).sort().map((key) => [key, ordered(value[key])]));
}

/** JSON for people: indented, its keys in order, its invisible characters written out. */
export const pretty = (value) =>
  (typeof value === "string" ? value : JSON.stringify(ordered(value), null, 2) ?? "").split("\n").map(visible).join("\n");

export const label = (name) => visible(name).replaceAll("_", " ");

export const time = (stamp) => new Date(stamp).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });

export const day = (stamp) => new Date(stamp).toLocaleString([], { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

export const size = (bytes) => (bytes < 1024 ? `${bytes} B` : bytes < 1048576 ? `${Math.round(bytes / 1024)} kB` : `${(bytes / 1048576).toFixed(1)} MB`);

export const CALL_STATUS = {
  pending: "queued", running: "running", waiting: "needs approval", succeeded: "done", failed: "failed",
  denied: "denied", canceled: "canceled", effect_unverified: "unknown outcome",
};

export const RUN_STATUS = {
  pending: "answering", running: "answering", waiting: "needs approval", staff: "needs a person", succeeded: "answered", failed: "failed", canceled: "stopped",
};

export const APPROVAL_STATUS = { approved: "Approved", denied: "Denied", expired: "Expired", canceled: "Withdrawn" };

/** `1,234 tokens (1,000 in, 234 out)`; empty when nothing was counted. */
export function usageLine(usage) {
  const total = usage?.total_tokens ?? 0;
  if (!total) return "";
  return `${total.toLocaleString("en")} tokens (${usage.input_tokens.toLocaleString("en")} in, ${usage.output_tokens.toLocaleString("en")} out)`;
}

/** `make("button", {class: "link", "data-ac-retry": ""}, "Retry")`: an element, its text and children as text nodes. */
export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** Set a data attribute where it is another one: the same value again would count as a change. */
export function setData(node, name, value) {
  if (node.dataset[name] !== value) node.dataset[name] = value;
}

const BLOCK = 4096; // characters that are laid out anew with each addition, at most twice as many

/**
 * A text that grows, in `node`: what is added is written, and what stands is left alone, also by the layout.
 *
 * Full lines become blocks of their own. While a line without an end grows it is cut at a space now and then, which
 * breaks it there; once the text is complete such a line is put together again.
 */
export class GrowingText {
  #node; #text = ""; #tail = null; #isCut = false;

  constructor(node) { this.#node = node; }

  set(text, growing) {
    if (!text.startsWith(this.#text) || (this.#isCut && !growing)) this.#clear();
    if (text.length === this.#text.length) return;
    if (!this.#tail) this.#node.append((this.#tail = document.createTextNode("")));
    this.#tail.appendData(readable(text.slice(this.#text.length)));
    this.#text = text;
    while (this.#tail.length > BLOCK && this.#fold(growing)) { /* until the rest is short, or one line */ }
  }

  #clear() {
    this.#node.replaceChildren();
    [this.#text, this.#tail, this.#isCut] = ["", null, false];
  }

  /** Make the beginning of the tail a block; false where there is no place to cut it. */
  #fold(growing) {
    const { data } = this.#tail;
    let end = data.lastIndexOf("\n", BLOCK) + 1 || data.indexOf("\n", BLOCK) + 1;
    if (!end && growing && data.length > 2 * BLOCK) {
      end = data.lastIndexOf(" ", BLOCK) + 1;
      this.#isCut ||= end > 0;
    }
    if (!end) return false;
    this.#tail.before(make("div", {}, data.slice(0, end)));
    this.#tail.deleteData(0, end);
    return true;
  }
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Make `parent` hold exactly `nodes`, in order, moving only what is out of place. */
export function place(parent, nodes) {
  let at = parent.firstChild;
  for (const node of nodes) {
    if (node === at) at = at.nextSibling;
    else parent.insertBefore(node, at);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}
