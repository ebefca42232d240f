/**
 * agent-reducer: the durable logs of agentcore as state.  Pure; no framework, no network, no DOM.
 *
 * Delivery may repeat or split events in any way: a repeated event changes nothing, a missing one raises
 * `GapError`.  `reduceRun` and `reduceThread` return a new state and leave the old one as it was.
 */

const TERMINAL = new Set(["succeeded", "failed", "canceled"]);

/** Messages in the order of their thread: by turn, then by step in the turn. */
export const byPlace = (a, b) => a.order - b.order || a.step_order - b.step_order;

/** The text parts of a message, one paragraph each. */
export const textOf = ({ parts = [] }) => parts.filter((part) => part.type === "text" && part.text).map((part) => part.text).join("\n\n");

export const isTerminal = (status) => TERMINAL.has(status);

/** An event is missing between the state and the one that arrived. */
export class GapError extends Error {
  constructor(expected, got) {
    super(`event ${got} arrived, ${expected} was expected`);
    Object.assign(this, { name: "GapError", expected, got });
  }
}

export const newThread = () => ({ seq: -1, messages: {}, runs: {}, approvals: {} });

export const newRun = (id) => ({
  id, seq: -1, number: 0, order: null, agent: "", agentVersion: "", status: "pending", reasons: [], attempt: 0,
  prompt: null, retryOf: null, availableAt: null, steps: [], calls: {}, approvals: {}, usage: null, output: null,
  outputDraft: "", error: null, finishReason: "",
  done: false, cut: false,
});

const newStep = (step) => ({
  step, kind: "model", text: "", reasoning: "", sources: [], files: [], providerCalls: [], calls: [], context: [], model: "", status: "streaming",
});

const draftless = { text: "", reasoning: "", sources: [], files: [], providerCalls: [], status: "streaming" };

const source = ({ title, url = null, document = null, quote = "", start = null, end = null }) => ({ title, url, document, quote, start, end });
const file = ({ file_id = "", url = "", filename = "", media_type = "" }) => ({ file_id, url, filename, media_type });
const providerCall = ({ call_id, name, arguments: given = null }) => ({ call_id, name, arguments: given, result: null, done: false });

/** The tools that the provider ran, with what came of one of them. */
const returned = (calls, { call_id, result = null }) => calls.map((call) => (call.call_id === call_id ? { ...call, result, done: true } : call));

function withStep(run, number, change) {
  const at = run.steps.findIndex((step) => step.step === number);
  const step = at < 0 ? newStep(number) : run.steps[at];
  const next = { ...step, ...(typeof change === "function" ? change(step) : change) };
  const steps = [...run.steps];
  if (at < 0) steps.push(next);
  else steps[at] = next;
  return { ...run, steps: steps.sort((a, b) => a.step - b.step) };
}

function withCall(run, id, change) {
  const call = run.calls[id] ?? { call_id: id, name: "", arguments: {}, status: "pending", result: null, error: "" };
  return { ...run, calls: { ...run.calls, [id]: { ...call, ...change } } };
}

function withApproval(run, id, change) {
  return { ...run, approvals: { ...run.approvals, [id]: { ...(run.approvals[id] ?? {}), ...change } } };
}

/** Of what an event that was cut tells, the rows have all; see `withRows`. */
const ifCut = (event) => (event.cut ? { cut: true } : {});

function addUsage(total, step) {
  const sum = (a = {}, b = {}) => {
    const names = new Set([...Object.keys(a), ...Object.keys(b)]);
    return Object.fromEntries([...names].map((name) => [name, (a[name] ?? 0) + (b[name] ?? 0)]));
  };
  const { details, v, ...tokens } = step;
  const { details: before, v: version, ...known } = total ?? {};
  return { v: v ?? version ?? 1, ...sum(known, tokens), details: sum(before, details) };
}

function inOrder(state, event) {
  if (event.seq <= state.seq) return false;
  if (event.seq !== state.seq + 1) throw new GapError(state.seq + 1, event.seq);
  return true;
}

/** What the parts of a saved message say, as its step has it. */
function saidIn(message) {
  const { parts = [] } = message;
  const of = (type) => parts.filter((part) => part.type === type);
  const ran = { "provider-call": (calls, part) => [...calls, providerCall(part)], "provider-result": returned };
  return {
    text: textOf(message), reasoning: of("reasoning").map((part) => part.text).join(""),
    sources: of("source").map(source), files: of("file").map(file),
    providerCalls: parts.reduce((calls, part) => (Object.hasOwn(ran, part.type) ? ran[part.type](calls, part) : calls), []),
  };
}

const RUN_EVENTS = {
  "run.created": (run, e) => ({
    ...run, number: e.number ?? run.number, order: e.order ?? run.order, agent: e.agent ?? "",
    agentVersion: e.agent_version ?? "", prompt: e.prompt ?? null, retryOf: e.retry_of ?? null,
  }),
  "run.started": (run, e) => ({
    ...run, status: "running", reasons: [], availableAt: null, attempt: e.attempt ?? run.attempt,
  }),
  "run.waiting": (run, e) => ({ ...run, status: "waiting", reasons: e.reasons ?? [] }),
  "run.resumed": (run) => ({ ...run, status: "pending", reasons: [] }),
  "run.released": (run, e) => ({ ...run, status: "pending", availableAt: e.available_at ?? null }),
  "step.started": (run, e) => withStep(run, e.step, {
    ...draftless, kind: e.kind ?? "model", model: e.model ?? "", context: e.context ?? [],
  }),
  "step.reset": (run, e) => ({ ...withStep(run, e.step, draftless), outputDraft: "" }),
  "step.finished": (run, e) => withStep(run, e.step, (step) => ({
    status: step.status === "streaming" ? "complete" : step.status, finishReason: e.finish_reason ?? "",
  })),
  "text.delta": (run, e) => withStep(run, e.step, (step) => ({ text: step.text + (e.begins && step.text ? "\n\n" : "") + e.text })),
  "reasoning.delta": (run, e) => withStep(run, e.step, (step) => ({ reasoning: step.reasoning + e.text })),
  source: (run, e) => withStep(run, e.step, (step) => ({ sources: [...step.sources, source(e)] })),
  file: (run, e) => withStep(run, e.step, (step) => ({ files: [...step.files, file(e)] })),
  "provider.call": (run, e) => withStep(run, e.step, (step) => ({ providerCalls: [...step.providerCalls, providerCall(e)] })),
  "provider.result": (run, e) => withStep(run, e.step, (step) => ({ providerCalls: returned(step.providerCalls, e) })),
  message: (run, e) => {
    if (e.message.author?.kind !== "agent") return run;
    const number = e.step ?? run.steps.findLast((step) => step.kind === "model")?.step ?? 0;
    // Of an event that was cut the words are not whole; those that were streamed are.
    return withStep(run, number, {
      ...(e.cut ? {} : saidIn(e.message)), status: e.message.status ?? "complete", message: e.message.id,
    });
  },
  "tool.call": (run, e) => withStep(
    withCall(run, e.call_id, {
      name: e.name, arguments: e.arguments, effect: e.effect, status: e.needs_approval ? "waiting" : "running", from: e.ts, ...ifCut(e),
    }),
    e.step, (step) => ({ calls: [...step.calls.filter((id) => id !== e.call_id), e.call_id] }),
  ),
  "tool.progress": (run, e) => withCall(run, e.call_id, { progress: e.value, status: "running" }),
  "tool.result": (run, e) => withCall(run, e.call_id, {
    status: e.status, result: e.result ?? null, error: e.error ?? "", code: e.code ?? "", edited: e.edited ?? null, to: e.ts, ...ifCut(e),
  }),
  "approval.request": (run, e) => withApproval(withCall(run, e.call_id, { status: "waiting" }), e.approval, {
    id: e.approval, run: run.id, call_id: e.call_id, tool: e.name, arguments: e.arguments, digest: e.digest,
    expires_at: e.expires_at ?? null, allowed: e.allowed ?? ["approve", "deny"], because: e.because ?? "", status: "pending", ...ifCut(e),
  }),
  "approval.response": (run, e) => withApproval(
    e.verdict === "approved" ? withCall(run, e.call_id, { status: "running", from: e.ts }) : run,
    e.approval, {
      status: e.verdict, decided_by: e.by ?? "", reason: e.reason ?? "", edited_arguments: e.edited_arguments ?? null, decided_at: e.ts, ...ifCut(e),
    },
  ),
  "output.delta": (run, e) => ({ ...run, outputDraft: run.outputDraft + e.text }),
  output: (run, e) => ({ ...run, output: e.value, outputDraft: "" }),
  usage: (run, e) => ({ ...run, usage: addUsage(run.usage, e.usage) }),
  error: (run, e) => ({ ...run, error: { code: e.code, message: e.message, retry_after: e.retry_after ?? null } }),
  done: (run, e) => ({ ...run, status: e.status, finishReason: e.finish_reason ?? "", reasons: [], done: true }),
};

/** The run after one event of its log; the same object when the event was seen before. */
export function reduceRun(run, event) {
  if (!inOrder(run, event)) return run;
  const reduce = Object.hasOwn(RUN_EVENTS, event.type) ? RUN_EVENTS[event.type] : (same) => same;
  return { ...reduce(run, event), seq: event.seq, ...ifCut(event) };
}

/** The thread after one event of its log; the same object when the event was seen before. */
export function reduceThread(thread, event) {
  if (!inOrder(thread, event)) return thread;
  const next = { ...thread, seq: event.seq };
  if (event.type === "thread.message") {
    next.messages = { ...thread.messages, [event.message.id]: { ...thread.messages[event.message.id], ...event.message } };
  } else if (event.type === "thread.run") {
    const known = thread.runs[event.run];
    const status = known && isTerminal(known.status) ? known.status : event.status; // a terminal run never reopens
    next.runs = { ...thread.runs, [event.run]: { ...known, id: event.run, number: event.number, agent: event.agent, status } };
  } else if (event.type === "thread.approval") {
    next.approvals = { ...thread.approvals, [event.approval]: { ...thread.approvals[event.approval], ...event } };
  }
  return next;
}

/** A run as its records tell it, with the messages that are known: the same shape that its log reduces to. */
export function runFromRecords(record, messages) {
  const failed = record.status === "failed";
  let run = {
    ...newRun(record.id), seq: record.seq ?? -1, number: record.number, order: record.order ?? null, agent: record.agent,
    agentVersion: record.agent_version, status: record.status, reasons: record.waiting_for ?? [], attempt: record.attempt,
    prompt: record.prompt ?? null, retryOf: record.retry_of ?? null, usage: record.usage, output: record.output,
    availableAt: record.status === "pending" ? record.available_at ?? null : null,
    error: failed && record.error ? { retry_after: null, ...record.error } : null,
    finishReason: record.finish_reason ?? "",
    done: isTerminal(record.status),
  };
  for (const message of messages.filter((m) => m.run === record.id && m.parts).sort(byPlace)) { // not one that is only placed
    const { parts } = message;
    const of = (type) => parts.filter((part) => part.type === type);
    if (message.author.kind === "agent") {
      const calls = of("tool-call");
      run = withStep(run, message.step_order, {
        ...saidIn(message), status: message.status, finishReason: message.finish_reason ?? "", calls: calls.map((part) => part.call_id),
        message: message.id,
      });
      for (const part of calls) run = withCall(run, part.call_id, { name: part.name, arguments: part.arguments });
    }
    for (const part of of("tool-result")) {
      run = withCall(run, part.call_id, {
        status: part.status, result: part.result ?? null, error: part.error ?? "", edited: part.edited ?? null,
      });
    }
  }
  for (const { call_id, status, error, code = "" } of record.calls ?? []) if (run.calls[call_id]) run = withCall(run, call_id, { status, error, code });
  for (const approval of record.approvals ?? []) run = withApproval(run, approval.id, approval);
  return run;
}

/** A run as its log tells it, with what was cut there as its rows have it, as far as `rows` (another run) knows them. */
export function withRows(run, rows) {
  let whole = run;
  for (const { call_id: id, cut, ...call } of Object.values(run.calls)) {
    const row = cut && rows.calls[id];
    if (!row) continue;
    whole = withCall(whole, id, {
      arguments: row.name ? row.arguments : call.arguments, // without a name, the message that asks for it is not at hand
      result: row.result ?? call.result, error: row.error || call.error, edited: row.edited ?? call.edited,
    });
  }
  for (const { id, cut, edited_arguments: edited } of Object.values(run.approvals)) {
    const row = cut && rows.approvals[id];
    if (!row) continue;
    const { arguments: given, digest, allowed, expires_at, because = "" } = row;
    whole = withApproval(whole, id, { arguments: given, digest, allowed, expires_at, because, edited_arguments: row.edited_arguments ?? edited ?? null });
  }
  return { ...whole, output: rows.output ?? run.output };
}

/**
 * An ended run after somebody said what became of a call of it: its own log is closed, the thread's says so.
 * What that person says the call has returned, or why it was given up, stands in the rows.
 */
export function afterAnswer(run, callId, status, rows) {
  if (!run.done || !run.calls[callId]) return run;
  const row = rows.calls[callId];
  return withCall(run, callId, row?.status === status ? { status, result: row.result, error: row.error, edited: row.edited } : { status });
}

/** What a waiting run still waits for; an answer that has come meanwhile is none of it. */
export function waitsFor(run) {
  const still = {
    approval: () => Object.values(run.approvals).some((approval) => approval.status === "pending"),
    effect_unverified: () => Object.values(run.calls).some((call) => call.status === "effect_unverified"),
  };
  return run.status === "waiting" ? run.reasons.filter((reason) => still[reason]?.() ?? true) : [];
}

/**
 * What a page shows, in order: `{uid, message}` for a user's or a loose message, `{uid, run, behind, retried}` for a
 * run.  `behind` is the status of the run it queues behind, or empty; `retried` says that its turn was tried again.
 */
export function timeline(state) {
  const entries = [];
  const orders = new Map(); // of a run by its messages, and of a message by its id
  for (const message of state.messages) {
    if (message.id) orders.set(message.id, message.order);
    if (message.run && !orders.has(message.run)) orders.set(message.run, message.order);
    if (message.author.kind !== "user" && message.run) continue;
    entries.push({ uid: message.uid, at: [message.order, 0, 0], message });
  }
  const runs = Object.values(state.runs).sort((a, b) => a.number - b.number);
  const newest = new Map(); // the last run of each turn
  let ahead = "";
  for (const run of runs) {
    const turn = run.order ?? orders.get(run.prompt) ?? orders.get(run.id);
    // Nothing places it yet: before what is being sent if it has no prompt, after it otherwise.
    const place = turn === undefined ? [Infinity, run.prompt ? 1 : -1] : [turn, 1];
    const entry = { uid: `run:${run.id}`, at: [...place, run.number], run, behind: "", retried: false };
    if (run.status === "pending" && run.seq < 1) entry.behind = ahead;
    if (!run.done) ahead = run.status;
    if (turn !== undefined) {
      if (newest.has(turn)) newest.get(turn).retried = true;
      newest.set(turn, entry);
    }
    entries.push(entry);
  }
  const compare = (a, b) => (a === b ? 0 : a - b);
  return entries.sort((a, b) => compare(a.at[0], b.at[0]) || compare(a.at[1], b.at[1]) || compare(a.at[2], b.at[2]));
}
