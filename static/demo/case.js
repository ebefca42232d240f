/** The case page: joins the thread's state to the conversation, the composer and the page's own signs. */

import { Activity } from "./activity.js";
import { Composer } from "./composer.js";
import { Conversation } from "./conversation.js";
import { make, place, setData, setText, RUN_STATUS } from "./text.js";

const EXAMPLES = [
  "Where is my order?",
  "Something arrived broken. What can I do?",
  "How long do I have to send something back?",
];
const FOLLOW_PX = 64;
const OFFLINE_MS = 1000;
const MANY_FAILURES = 5;
const SPOKEN = 1000; // characters of an answer that are read out; the rest stands in the conversation

const root = document.querySelector("[data-ac-thread]");
const find = (mark) => root.querySelector(`[data-ac-${mark}]`);
const { AgentThread, timeline, waitsFor } = await import(root.dataset.acClient); // the address that the static storage gave it

const thread = new AgentThread({
  threadId: root.dataset.acThread, api: root.dataset.acApi, socket: root.dataset.acSocket,
  sendUrl: root.dataset.acSend, csrfCookie: root.dataset.acCsrfCookie,
});
const log = find("log");
const form = find("composer");

// ---------------------------------------------------------------- commands

const composer = form && new Composer(form, {
  uploadUrl: root.dataset.acUpload,
  csrf: () => thread.csrfToken(),
  send: (text, files, parts) => {
    follow = true;
    return deliver(() => thread.send(text, { files }, parts));
  },
  stop,
});

/** Say something below the composer, or where there is none in its place. */
function say(text, bad = false) {
  if (composer) { composer.note(text, bad); return; }
  const note = find("readonly-note");
  setText(note, text);
  note.hidden = !text;
}

/** Do what a button asks for, and say why where it is refused. */
async function command(button, work, refusal) {
  button.disabled = true;
  const error = await work.then(() => null, (reason) => reason);
  button.disabled = false;
  draw();
  say(error ? `${refusal} ${error.message}` : "", Boolean(error));
  if (!button.isConnected) composer?.focus(); // its button is gone, and the keyboard must not be lost with it
}

async function deliver(send) {
  await send();
  draw();
}

async function stop() {
  const open = Object.values(thread.state.runs).filter((run) => run.status === "running" || run.status === "pending");
  composer.stopButton.disabled = true;
  const refused = await Promise.all(open.map((run) => thread.cancel(run.id, "Stopped on the case page").then(() => null, (error) => error)));
  composer.stopButton.disabled = false;
  const error = refused.find(Boolean);
  composer.note(error ? `Not stopped. ${error.message}` : "", Boolean(error));
  composer.focus();
}

const page = {
  me: root.dataset.acMe,
  agentName: root.dataset.acAgentName,
  filesUrl: root.dataset.acFiles,
  loginUrl: root.dataset.acLogin,
  adminUrl: root.dataset.acAdminRuns ?? "",
  operator: root.hasAttribute("data-ac-can-decide"),
  canWrite: Boolean(form),
  canOperate: Boolean(form) || root.hasAttribute("data-ac-can-operate"), // try again and stop, for another
  retrySend: (key) => deliver(() => thread.retrySend(key)),
  editSend: (message) => {
    thread.discard(message.key);
    composer.fill(message.text);
  },
  fill: (text) => composer.fill(text),
  retryRun: (id, button) => command(button, thread.retryRun(id), "Not tried again."),
  cancelRun: (id, button) => command(button, thread.cancel(id, "Stopped on the case page"), "Not stopped."),
  waitsFor,
  approvals: {
    canDecide: root.hasAttribute("data-ac-can-decide"),
    decide: (decision) => thread.decide([decision]),
    onAppear: (title) => { if (loaded && page.operator && (!composer || composer.empty)) queueMicrotask(() => title.focus({ preventScroll: true })); },
  },
};

// ---------------------------------------------------------------- drawing

const conversation = new Conversation(find("entries"), page);
const activity = new Activity(find("activity"), thread);
const jump = find("jump");
const older = make("div", { class: "older" }, make("button", { type: "button", "data-ac-older": "", onclick: loadOlder }, "Earlier messages"));
const start = make("div", { class: "start", "data-ac-start": "" },
  make("h2", {}, "How can we help?"),
  make("p", {}, "Ask about an order, a delivery or a refund. You can attach a receipt or a letter."),
  ...(composer ? [make("div", { class: "examples" }, ...EXAMPLES.map((text) => make("button", {
    type: "button", "data-ac-example": "", onclick: () => composer.fill(text),
  }, text)))] : []),
);
let loaded = false;
let follow = true; // the reader is at the end, so new text keeps the end in view
let unread = 0;
let drawing = 0;
let spoken = "";

function draw() {
  cancelAnimationFrame(drawing);
  drawing = 0;
  if (!loaded) return;
  const { state } = thread;
  const entries = timeline(state);
  if (entries.length) {
    const before = find("entries").childElementCount;
    conversation.update(entries);
    if (!follow) unread += Math.max(0, entries.length - before);
  } else {
    place(find("entries"), [start]);
  }
  if (state.hasOlder) log.prepend(older);
  else older.remove();
  activity.update(state);
  signs(state, entries);
  if (follow) log.scrollTop = log.scrollHeight;
  showJump();
}

function signs(state, entries) {
  const run = entries.filter((entry) => entry.run).at(-1)?.run;
  // What waits comes first, and what came later waits with it.  The same rule as the list's, in cases/models.py.
  const waiting = Object.values(state.runs).filter((other) => other.status === "waiting");
  const waits = waiting.length > 0;
  const reasons = new Set(waiting.flatMap(waitsFor));
  const isStaff = !reasons.has("approval") && (reasons.has("poisoned") || reasons.has("effect_unverified"));
  const status = isStaff ? "staff" : waits ? "waiting" : run?.status ?? "";
  for (const badge of [find("case-status"), document.querySelector(".side [aria-current='page'] .badge")]) {
    if (!badge || !status) continue;
    badge.hidden = false;
    badge.removeAttribute("aria-hidden");
    setData(badge, "acStatus", status);
    setText(badge, RUN_STATUS[status] ?? status);
  }
  if (composer) {
    composer.stopButton.hidden = state.status !== "working";
    setText(composer.stopButton, waits ? "Cancel queued" : "Stop"); // what waits for a decision is not stopped by it
  }
  const answer = (run?.steps.findLast((step) => step.text)?.text ?? "").slice(0, SPOKEN);
  const words = {
    pending: "The agent is working.", running: "The agent is answering.", waiting: "An operator’s approval is needed.",
    staff: "A person has to look at this case.",
    succeeded: `The agent answered: ${answer}`, failed: "The agent could not finish.", canceled: "Stopped.",
  };
  if (status && spoken !== status && spoken !== "") setText(find("live"), words[status] ?? "");
  spoken = status || "idle";
}

function showJump() {
  jump.hidden = follow;
  if (follow) unread = 0;
  setText(jump, unread ? `Jump to latest (${unread} new)` : "Jump to latest");
}

async function loadOlder() {
  const from = log.scrollHeight - log.scrollTop;
  follow = false;
  await thread.loadOlder().catch((error) => say(`Earlier messages could not be loaded. ${error.message}`, true));
  draw();
  log.scrollTop = log.scrollHeight - from;
}

log.addEventListener("scroll", () => {
  follow = log.scrollHeight - log.scrollTop - log.clientHeight <= FOLLOW_PX;
  showJump();
}, { passive: true });
jump.addEventListener("click", () => { follow = true; draw(); composer?.focus(); });
new ResizeObserver(() => { if (follow) log.scrollTop = log.scrollHeight; }).observe(log);

// ---------------------------------------------------------------- connection

let bannerTimer = 0;

function connection({ status, failures }) {
  const banner = find("banner");
  if (status === "open" || status === "connecting") {
    clearTimeout(bannerTimer);
    bannerTimer = 0;
    banner.hidden = true;
    return;
  }
  const show = () => {
    const now = thread.state.connection;
    const lost = now.failures >= MANY_FAILURES;
    const words = now.status === "gone" ? "This case is no longer open to you. " : lost ? "Connection lost. " : "Reconnecting…";
    banner.replaceChildren(words);
    if (now.status === "gone") banner.append(make("a", { href: location.href }, "Log in again"));
    else if (lost) banner.append(make("button", { type: "button", class: "link", "data-ac-reconnect": "", onclick: () => thread.reconnect() }, "Retry now"));
    banner.hidden = false;
  };
  if (!banner.hidden || status === "gone" || failures >= MANY_FAILURES) show();
  else bannerTimer ||= setTimeout(show, OFFLINE_MS); // a blip is not worth a word
}

thread.addEventListener("change", () => {
  connection(thread.state.connection);
  drawing ||= requestAnimationFrame(draw);
});

async function begin() {
  try {
    await thread.start();
    loaded = true;
    find("entries").replaceChildren();
    draw();
    if (composer && matchMedia("(hover: hover)").matches) composer.focus();
    root.dataset.acReady = "";
  } catch (error) {
    place(find("entries"), [make("div", { class: "run-error", role: "alert", "data-ac-load-error": "" },
      make("span", {}, `The case could not be loaded. ${error.message}`),
      make("button", { type: "button", "data-ac-reload": "", onclick: begin }, "Retry"))]);
  }
}

await begin();
