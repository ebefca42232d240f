/** The cards of a run: a tool call, an approval, the structured output. Each is made once and updated in place. */

import { APPROVAL_STATUS, CALL_STATUS, day, label, make, pretty, setData, setText, shown, visible } from "./text.js";

const LONG = 2000;
const OUTPUT_ORDER = ["category", "urgency", "sentiment", "summary", "refund"];

/** A collapsible tool call; what the reader opened stays open. */
export class CallCard {
  #badge = make("span", { class: "badge" });
  #name = make("span", { class: "name" });
  #body = make("div", { class: "fold-body" });
  #call = null;
  #drawn = "";

  constructor() {
    this.node = make("details", { class: "fold" }, make("summary", {}, this.#name, this.#badge), this.#body);
  }

  /** `edited`: the arguments that an approver put in the place of the ones asked for. */
  update(call, edited) {
    if (call === this.#call && !edited) return;
    this.#call = call;
    setData(this.node, "acTool", call.name);
    setData(this.node, "acCallId", call.call_id);
    setData(this.#badge, "acCall", call.status);
    setText(this.#name, visible(call.name));
    setText(this.#badge, CALL_STATUS[call.status] ?? call.status);
    const drawing = JSON.stringify([call.arguments, edited, call.result, call.error, call.code, call.progress]);
    if (drawing === this.#drawn) return;
    this.#drawn = drawing;
    this.#body.replaceChildren(
      ...block(edited ? "Arguments as asked" : "Arguments", pretty(call.arguments), "data-ac-arguments"),
      ...(edited ? block("Changed to", pretty(edited), "data-ac-edited") : []),
      ...(call.progress !== undefined && !call.to ? block("Progress", pretty(call.progress), "data-ac-progress") : []),
      ...(call.error ? block(call.code ? `Error (${visible(call.code)})` : "Error", pretty(call.error), "data-ac-error") : []),
      ...(call.result !== null && call.result !== undefined ? block("Result", pretty(call.result), "data-ac-result") : []),
    );
  }
}

function block(title, text, mark) {
  const pre = make("pre", { [mark]: "", tabindex: "0" }, text.length > LONG ? `${text.slice(0, LONG)}…` : text);
  const all = text.length > LONG && make("button", {
    type: "button", class: "link", onclick: () => { pre.textContent = text; all.remove(); },
  }, "Show all");
  return [make("h4", {}, title), pre, ...(all ? [all] : [])];
}

function pairs(given, mark) {
  return Object.entries(given ?? {}).sort(([a], [b]) => (a < b ? -1 : 1))
    .flatMap(([name, value]) => [make("dt", {}, label(name)), make("dd", { [mark]: name }, shown(value))]);
}

/** One approval: the stored arguments, who may decide, and afterwards who did. */
export class ApprovalCard {
  #lead = make("span");
  #title = make("h3", { tabindex: "-1" }, this.#lead);
  #badge = make("small");
  #arguments = make("dl", { class: "pairs", "data-ac-approval-arguments": "" });
  #edited = make("div", { "data-ac-approval-edited": "", hidden: true });
  #outcome = make("p", { class: "outcome", "data-ac-outcome": "" });
  #error = make("p", { class: "error", role: "alert", hidden: true });
  #reason = make("input", { type: "text", maxlength: "500", autocomplete: "off", "data-ac-reason": "" });
  #buttons = make("div", { class: "buttons" });
  #form = null;
  #id = "";

  constructor({ canDecide, decide, onAppear }) {
    this.decide = decide;
    this.canDecide = canDecide;
    this.onAppear = onAppear;
    this.node = make("section", { class: "approval", "aria-label": "Approval" },
      make("header", {}, this.#title, this.#badge), this.#arguments, this.#edited, this.#outcome, this.#error);
  }

  update(approval) {
    const first = !this.#id;
    this.#id = approval.id;
    setData(this.node, "acApproval", approval.id);
    setData(this.node, "acApprovalStatus", approval.status);
    if (first) this.#draw(approval);
    const pending = approval.status === "pending";
    setText(this.#lead, pending ? "Approval needed: " : "Approval: ");
    setText(this.#badge, pending && approval.expires_at ? `expires ${day(approval.expires_at)}` : "");
    if (pending) {
      setText(this.#outcome, this.canDecide ? "" : "Waiting for an operator to decide. You can close this page; the case goes on by itself.");
      if (this.canDecide && !this.#form) this.#offer(approval);
    } else {
      this.#change(approval.edited_arguments);
      this.#form?.remove();
      this.#form = null;
      this.#error.hidden = true;
      const by = approval.decided_by ? ` by ${visible(approval.decided_by)}` : "";
      const why = approval.reason ? `: “${visible(approval.reason)}”` : ".";
      setText(this.#outcome, `${APPROVAL_STATUS[approval.status] ?? approval.status}${by}${why}`);
    }
    this.#outcome.hidden = !this.#outcome.textContent;
    if (first && pending) this.onAppear?.(this.#title);
  }

  #draw(approval) {
    this.#title.append(make("code", {}, visible(approval.tool ?? approval.name ?? "")));
    if (approval.because) this.#arguments.before(make("p", { "data-ac-because": "" }, visible(approval.because)));
    this.#arguments.append(...pairs(approval.arguments, "data-ac-argument"));
  }

  /** What was approved when it is not what was asked for. */
  #change(edited) {
    if (!edited || !this.#edited.hidden) return;
    this.#edited.append(make("h4", {}, "Changed to"), make("dl", { class: "pairs" }, ...pairs(edited, "data-ac-edited-argument")));
    this.#edited.hidden = false;
  }

  #offer(approval) {
    const id = `reason-${approval.id}`;
    this.#reason.id = id;
    const button = (verdict, text, kind) => make("button", {
      type: "button", class: kind, [`data-ac-${verdict}`]: "", onclick: () => this.#answer(verdict),
    }, text);
    const allowed = approval.allowed ?? ["approve", "deny"];
    this.#buttons.replaceChildren(
      ...(allowed.includes("approve") ? [button("approve", "Approve", "primary")] : []),
      ...(allowed.includes("deny") ? [button("deny", "Deny", "danger")] : []),
    );
    this.#form = make("div", { class: "decide" }, make("label", { for: id }, "Reason (the agent and the customer read it)"), this.#reason, this.#buttons);
    this.#form.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && allowed.includes("approve")) this.#answer("approve");
    });
    this.#error.before(this.#form);
  }

  async #answer(verdict) {
    const buttons = [...this.#buttons.children];
    if (buttons.some((button) => button.disabled)) return;
    for (const button of buttons) button.disabled = true;
    this.#error.hidden = true;
    try {
      await this.decide({ approval: this.#id, verdict, reason: this.#reason.value.trim() });
    } catch (error) {
      // When somebody else was first, the log brings the real outcome and this card closes by itself.
      this.#error.textContent = error.message;
      this.#error.hidden = false;
      for (const button of buttons) button.disabled = false;
    }
  }
}

/** The structured output as a table of what it says. */
export class OutputCard {
  #pairs = make("dl", { class: "pairs" });
  #drawn = "";

  constructor() {
    this.node = make("section", { class: "output", "data-ac-output": "", "aria-label": "Triage" }, make("h3", {}, "Triage"), this.#pairs);
  }

  update(value) {
    const drawing = JSON.stringify(value);
    if (drawing === this.#drawn) return;
    this.#drawn = drawing;
    const object = value !== null && typeof value === "object" && !Array.isArray(value) ? value : { value };
    const named = OUTPUT_ORDER.filter((name) => Object.hasOwn(object, name));
    const others = Object.keys(object).filter((name) => !named.includes(name)).sort();
    const pairs = [...named, ...others].map((name) => [name, object[name]]);
    this.#pairs.replaceChildren(...pairs.filter(([, item]) => item !== null && item !== "").flatMap(([name, item]) => [
      make("dt", {}, label(name)), make("dd", { "data-ac-output-field": name }, plain(item)),
    ]));
  }
}

function plain(value) {
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (Array.isArray(value) && value.every((item) => typeof item !== "object")) return value.map(shown).join(", ") || "–";
  return shown(value);
}
