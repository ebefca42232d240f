/** The conversation: what `timeline(state)` says, as DOM that is made once per entry and updated in place. */

import { ApprovalCard, CallCard, OutputCard } from "./cards.js";
import { endOf, heldWords, waitingWords } from "./ends.js";
import { fileLink, Findings, showsSomething } from "./findings.js";
import { GrowingText, make, place, readable, setData, setText, usageLine, visible } from "./text.js";

// A refusal with words of its own is about something else.
const isLoggedOut = (error) => error?.status === 401 || (error?.status === 403 && !error.code);

class MessageView {
  #text = make("div", { class: "text" });
  #bubble = make("div", { class: "bubble" }, this.#text);
  #chips = make("ul", { class: "chips" });
  #note = make("div", { class: "message-note" });
  #drawn = "";

  constructor(page) {
    this.page = page;
    this.node = make("article", { class: "message" }, this.#bubble, this.#chips, this.#note);
  }

  update({ uid, message }) {
    const state = message.id ? "complete" : message.status;
    const mine = message.author.kind === "user" && (!message.author.name || message.author.name === this.page.me || !this.page.operator);
    this.node.className = mine ? "message" : "message other";
    this.node.dataset.acMessage = message.id ?? "";
    this.node.dataset.acKey = uid;
    this.node.dataset.acAuthor = message.author.kind;
    this.node.dataset.acState = state;
    setText(this.#text, readable(message.text ?? ""));
    this.#bubble.hidden = !message.text;
    const files = (message.parts ?? []).filter((part) => part.type === "file");
    const drawing = JSON.stringify([files, state, message.error?.message]);
    if (drawing === this.#drawn) return;
    this.#drawn = drawing;
    this.#chips.replaceChildren(...files.map((file) => make("li", {}, fileLink(file, this.page.filesUrl))));
    this.#note.replaceChildren();
    if (state === "sending") this.#note.append("Sending…");
    if (state === "failed") {
      this.#note.append(
        make("span", { class: "error", role: "alert" }, `Not sent. ${message.error?.message ?? ""} `),
        ...(isLoggedOut(message.error) ? [make("a", { href: this.page.loginUrl, target: "_blank", "data-ac-log-in": "" }, "Log in"), " "] : []),
        make("button", { type: "button", class: "link", "data-ac-retry-send": "", onclick: () => this.page.retrySend(message.key) }, "Retry"), " ",
        make("button", { type: "button", class: "link", "data-ac-edit-send": "", onclick: () => this.page.editSend(message) }, "Edit"),
      );
    }
  }
}

class StepView {
  #text = make("div", { class: "text", "data-ac-text-of": "agent" });
  #words = new GrowingText(this.#text);
  #answer = make("div", { class: "answer", "data-ac-answer": "" }, this.#text);
  #reasoning = make("pre", { tabindex: "0" });
  #thinking = new GrowingText(this.#reasoning);
  #thoughts = make("details", { class: "fold", "data-ac-reasoning": "" },
    make("summary", {}, "Reasoning"), make("div", { class: "fold-body" }, this.#reasoning));
  #findings;
  #calls = new Map();
  #approvals = new Map();
  #drawn = [];

  constructor(page) {
    this.page = page;
    this.#findings = new Findings(page.filesUrl);
    this.node = make("div", { class: "step" });
  }

  update(step, run, live) {
    const calls = step.calls.map((id) => run.calls[id]);
    const approvals = Object.values(run.approvals).filter((approval) => step.calls.includes(approval.call_id));
    const drawing = [step, live, ...calls, ...approvals];
    if (drawing.length === this.#drawn.length && drawing.every((item, index) => item === this.#drawn[index])) return;
    this.#drawn = drawing;
    setData(this.node, "acStep", String(step.step));
    const growing = live && step.status === "streaming";
    const nodes = [];
    if (step.reasoning) {
      this.#thinking.set(step.reasoning, growing);
      nodes.push(this.#thoughts);
    }
    nodes.push(...this.#findings.before(step, growing));
    if (step.text) {
      this.#words.set(growing ? step.text : step.text.trimEnd(), growing);
      if (this.#answer.getAttribute("aria-busy") !== String(growing)) this.#answer.setAttribute("aria-busy", String(growing));
      setData(this.#answer, "acState", step.status);
      nodes.push(this.#answer);
    }
    nodes.push(...this.#findings.after(step));
    for (const call of calls) {
      if (!this.#calls.has(call.call_id)) this.#calls.set(call.call_id, new CallCard());
      const card = this.#calls.get(call.call_id);
      const asked = approvals.filter((approval) => approval.call_id === call.call_id);
      card.update(call, call.edited?.arguments ?? asked.find((approval) => approval.edited_arguments)?.edited_arguments);
      nodes.push(card.node, ...asked.map((approval) => this.#approval(approval)));
    }
    place(this.node, nodes);
  }

  #approval(approval) {
    if (!this.#approvals.has(approval.id)) this.#approvals.set(approval.id, new ApprovalCard(this.page.approvals));
    const card = this.#approvals.get(approval.id);
    card.update(approval);
    return card.node;
  }
}

/** Why a run does not go on, or how it ended, with what the reader can do about it. */
class EndView {
  #words = make("span");
  #ways = make("span", { class: "ways" });
  #drawn = "";

  constructor(page) {
    this.page = page;
    this.node = make("div", { class: "run-end" }, this.#words, this.#ways);
  }

  update(entry, waits) {
    const { page } = this;
    const end = waits.length ? { code: waits[0], text: waitingWords(waits, page.operator).join(" "), isError: false } : endOf(entry);
    const drawing = JSON.stringify(end);
    if (drawing === this.#drawn) return Boolean(end?.text);
    this.#drawn = drawing;
    if (!end?.text) return false;
    const isStopped = end.code === "canceled";
    this.node.className = end.isError ? "run-end run-error" : "run-end";
    this.node.toggleAttribute("data-ac-run-error", end.isError);
    this.node.toggleAttribute("data-ac-stopped", isStopped);
    setData(this.node, "acEnd", end.code);
    if (end.isError) this.node.setAttribute("role", "alert");
    else this.node.removeAttribute("role");
    setText(this.#words, end.text);
    this.#ways.replaceChildren(...this.#buttons(entry.run, end));
    return true;
  }

  #buttons(run, end) {
    const { page } = this;
    const ways = [];
    if (end.mayRetry && page.canOperate) {
      const retry = make("button", { type: "button", "data-ac-retry-run": "", onclick: () => page.retryRun(run.id, retry) }, "Try again");
      ways.push(retry);
    }
    if (end.mayGoOn && page.canWrite) {
      ways.push(make("button", { type: "button", "data-ac-go-on": "", onclick: () => page.fill("Please go on where you stopped.") }, "Ask for the rest"));
    }
    if (run.status === "waiting" && page.adminUrl) {
      ways.push(make("a", { class: "button", href: `${page.adminUrl}${run.id}/change/`, "data-ac-admin-run": "" }, "Open in the admin"));
    }
    if (end.code === "poisoned" && page.canOperate) {
      const stop = make("button", { type: "button", "data-ac-cancel-run": "", onclick: () => page.cancelRun(run.id, stop) }, "Stop it");
      ways.push(stop);
    }
    return ways;
  }
}

class RunView {
  #head = make("div", { class: "run-head" });
  #steps = new Map();
  #output = new OutputCard();
  #usage = make("p", { class: "usage", "data-ac-usage": "" });
  #thinking = make("div", { class: "thinking", "data-ac-thinking": "" });
  #end;

  constructor(page) {
    this.page = page;
    this.#head.append(page.agentName);
    this.#end = new EndView(page);
    this.node = make("article", { class: "run" });
  }

  update(entry) {
    const { run, behind } = entry;
    setData(this.node, "acRun", run.id);
    setData(this.node, "acRunStatus", run.status);
    const live = run.status === "running";
    const nodes = [this.#head];
    for (const step of run.steps) {
      if (!showsSomething(step)) continue;
      if (!this.#steps.has(step.step)) this.#steps.set(step.step, new StepView(this.page));
      const view = this.#steps.get(step.step);
      view.update(step, run, live);
      nodes.push(view.node);
    }
    const last = run.steps.at(-1);
    const writing = live && last?.text && last.status === "streaming";
    if ((run.status === "pending" || live) && !writing) {
      setText(this.#thinking, heldWords(run, behind));
      nodes.push(this.#thinking);
    }
    if (this.page.operator && run.output !== null && run.output !== undefined) { // for the team, not for the customer
      this.#output.update(run.output);
      nodes.push(this.#output.node);
    }
    if (this.#end.update(entry, this.page.waitsFor(run))) nodes.push(this.#end.node);
    if (run.done && usageLine(run.usage)) {
      setText(this.#usage, usageLine(run.usage));
      nodes.push(this.#usage);
    }
    place(this.node, nodes);
  }
}

const isSame = (a, b) => a && a.message === b.message && a.run === b.run && a.behind === b.behind && a.retried === b.retried;

/** Draws a timeline into `root`, and of it only what has changed; `page` carries what the views need to act. */
export class Conversation {
  #views = new Map(); // by entry: its view, and the entry as it was drawn

  constructor(root, page) {
    this.root = root;
    this.page = page;
  }

  update(entries) {
    const known = new Set();
    const nodes = entries.map((entry) => {
      known.add(entry.uid);
      if (!this.#views.has(entry.uid)) {
        this.#views.set(entry.uid, { view: entry.run ? new RunView(this.page) : new MessageView(this.page), drawn: null });
      }
      const shown = this.#views.get(entry.uid);
      if (!isSame(shown.drawn, entry)) shown.view.update(entry);
      shown.drawn = entry;
      return shown.view.node;
    });
    for (const uid of this.#views.keys()) if (!known.has(uid)) this.#views.delete(uid);
    place(this.root, nodes);
  }
}
