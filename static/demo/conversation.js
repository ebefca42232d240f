/** The conversation: what `timeline(state)` says, as DOM that is made once per entry and updated in place. */

import { ApprovalCard, CallCard, OutputCard } from "./cards.js";
import { make, place, readable, setText, usageLine, visible } from "./text.js";

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
    this.#chips.replaceChildren(...files.map((file) => make("li", {}, make("a", {
      class: "chip", href: `${this.page.filesUrl}${encodeURIComponent(file.file_id)}/`, "data-ac-file": file.file_id, download: "",
    }, make("span", {}, visible(file.filename))))));
    this.#note.replaceChildren();
    if (state === "sending") this.#note.append("Sending…");
    if (state === "failed") {
      this.#note.append(
        make("span", { class: "error", role: "alert" }, `Not sent. ${message.error?.message ?? ""} `),
        make("button", { type: "button", class: "link", "data-ac-retry-send": "", onclick: () => this.page.retrySend(message.key) }, "Retry"), " ",
        make("button", { type: "button", class: "link", "data-ac-edit-send": "", onclick: () => this.page.editSend(message) }, "Edit"),
      );
    }
  }
}

class StepView {
  #text = make("div", { class: "text", "data-ac-text-of": "agent" });
  #answer = make("div", { class: "answer", "data-ac-answer": "" }, this.#text);
  #reasoning = make("pre", { tabindex: "0" });
  #thoughts = make("details", { class: "fold", "data-ac-reasoning": "" },
    make("summary", {}, "Reasoning"), make("div", { class: "fold-body" }, this.#reasoning));
  #sources = make("ul", { class: "sources", "data-ac-sources": "", "aria-label": "Sources" });
  #calls = new Map();
  #approvals = new Map();

  constructor(page) {
    this.page = page;
    this.node = make("div", { class: "step" });
  }

  update(step, run, live) {
    this.node.dataset.acStep = step.step;
    const nodes = [];
    if (step.reasoning) {
      setText(this.#reasoning, readable(step.reasoning));
      nodes.push(this.#thoughts);
    }
    if (step.text) {
      setText(this.#text, readable(step.text));
      this.#answer.setAttribute("aria-busy", String(live && step.status === "streaming"));
      this.#answer.dataset.acState = step.status;
      nodes.push(this.#answer);
    }
    if (step.sources.length) {
      if (this.#sources.children.length !== step.sources.length) {
        this.#sources.replaceChildren(...step.sources.map((source) => make("li", {}, visible(source.title))));
      }
      nodes.push(this.#sources);
    }
    for (const id of step.calls) {
      if (!this.#calls.has(id)) this.#calls.set(id, new CallCard());
      const card = this.#calls.get(id);
      const approvals = Object.values(run.approvals).filter((approval) => approval.call_id === id);
      card.update(run.calls[id], approvals.find((approval) => approval.edited_arguments)?.edited_arguments);
      nodes.push(card.node, ...approvals.map((approval) => this.#approval(approval)));
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

class RunView {
  #head = make("div", { class: "run-head" });
  #steps = new Map();
  #output = new OutputCard();
  #usage = make("p", { class: "usage", "data-ac-usage": "" });
  #thinking = make("div", { class: "thinking", "data-ac-thinking": "" });
  #stopped = make("p", { class: "note", "data-ac-stopped": "" }, "Stopped. What was written so far is kept.");
  #problem = make("span");
  #retry;
  #error;

  constructor(page) {
    this.page = page;
    this.#head.append(page.agentName);
    this.#retry = make("button", { type: "button", "data-ac-retry-run": "", onclick: () => page.retryRun(this.id, this.#retry) }, "Try again");
    this.#error = make("div", { class: "run-error", role: "alert", "data-ac-run-error": "" }, this.#problem, this.#retry);
    this.node = make("article", { class: "run" });
  }

  /** `behind`: an earlier run waits for a decision, so this one has not begun. */
  update({ run }, behind) {
    this.id = run.id;
    this.node.dataset.acRun = run.id;
    this.node.dataset.acRunStatus = run.status;
    const live = run.status === "running";
    const nodes = [this.#head];
    for (const step of run.steps) {
      if (!this.#steps.has(step.step)) this.#steps.set(step.step, new StepView(this.page));
      const view = this.#steps.get(step.step);
      view.update(step, run, live);
      nodes.push(view.node);
    }
    const last = run.steps.at(-1);
    const writing = live && last?.text && last.status === "streaming";
    const held = (run.status === "pending" || live) && !writing;
    if (held) {
      const queued = run.status === "pending" && run.seq < 1;
      setText(this.#thinking, queued && behind ? "Waits for the decision above." : queued ? "Queued…" : "Working…");
      nodes.push(this.#thinking);
    }
    if (this.page.operator && run.output !== null && run.output !== undefined) { // for the team, not for the customer
      this.#output.update(run.output);
      nodes.push(this.#output.node);
    }
    if (run.status === "canceled") nodes.push(this.#stopped);
    if (run.status === "failed") {
      const { code = "", message = "The run ended without a reason." } = run.error ?? {};
      setText(this.#problem, `The agent could not finish: ${visible(message)}${code ? ` (${code}, run ${run.id.slice(0, 8)})` : ""}`);
      this.#retry.hidden = !this.page.canWrite;
      nodes.push(this.#error);
    }
    if (run.done && usageLine(run.usage)) {
      setText(this.#usage, usageLine(run.usage));
      nodes.push(this.#usage);
    }
    place(this.node, nodes);
  }
}

/** Draws a timeline into `root`; `page` carries what the views need to act. */
export class Conversation {
  #views = new Map();

  constructor(root, page) {
    this.root = root;
    this.page = page;
  }

  update(entries) {
    const known = new Set();
    let waits = false;
    const nodes = entries.map((entry) => {
      known.add(entry.uid);
      if (!this.#views.has(entry.uid)) this.#views.set(entry.uid, entry.run ? new RunView(this.page) : new MessageView(this.page));
      const view = this.#views.get(entry.uid);
      view.update(entry, waits);
      waits ||= entry.run?.status === "waiting";
      return view.node;
    });
    for (const uid of this.#views.keys()) if (!known.has(uid)) this.#views.delete(uid);
    place(this.root, nodes);
  }
}
