/**
 * agent-store: what one client knows of a thread, and the state that follows from it.  No network, no DOM.
 *
 * A run is known by its record, which came with a page, or by its log, or by both: shown is whichever knows more.
 * A message that is being sent is shown until one with its key stands in the thread, whoever said so first.  What a
 * run has said is only placed by the thread's log; the run's log has the words.  What neither has whole is named by
 * `takeMissing`, to be read from the rows.  `messages` has no holes: what is older than the pages that were read waits
 * for its page.  What did not change keeps its identity from one state to the next, so that a page draws again only
 * what did.
 */

import { afterAnswer, byPlace, newRun, newThread, reduceRun, reduceThread, runFromRecords, textOf, withRows } from "./agent-reducer.js";

const OF_A_RECORD = new Set(["approval.request", "approval.response", "output"]); // what a run's own row has of its log

/** A page's `before` as a place to compare with. */
function placeOf(before) {
  const [order, step = 0] = before.split(".").map(Number);
  return { order, step_order: step };
}

const isSame = (a, b) => a.length === b.length && a.every((item, index) => item === b[index]);

export class ThreadStore {
  #thread = newThread(); #older = null;
  #outbox = new Map(); #sent = []; // by key, and the messages that the answers to them named
  #records = new Map(); #runs = new Map(); #logs = new Map(); #answers = new Map();
  #stale = new Set(); // runs to derive anew
  #missing = []; // what is to be read from the rows: `{message}`, which says where, or `{run}`, an id
  #entries = new WeakMap(); // what is shown of a message, by the message
  #recorded = new WeakMap(); // and of a record
  #listed = { from: null, outbox: null }; // what `messages` was derived from
  #connection;
  state;

  constructor(connection) {
    this.#connection = connection;
    this.state = { messages: [], runs: {}, approvals: [], status: "idle", connection, hasOlder: false };
  }

  get seq() { return this.#thread.seq; }

  get older() { return this.#older; }

  /** Where the logs of the runs that go on stand, the newest runs first. */
  get cursors() {
    return [...this.#runs.values()].filter((run) => !run.done).sort((a, b) => b.number - a.number).map((run) => [run.id, run.seq]);
  }

  setConnection(connection) { this.#connection = connection; }

  // ---------------------------------------------------------------- what the server says

  startFrom(seq) { this.#thread = { ...this.#thread, seq: Math.max(this.#thread.seq, seq) }; }

  addPage({ messages, runs = [], before }) {
    this.addMessage({ messages, runs });
    this.#miss(messages.filter((message) => this.#isAnswered(message))); // it was read before the answer
    this.#older = before ?? null;
  }

  /** One message, read by itself, with its run. */
  addMessage({ messages, runs = [] }) {
    this.#addMessages(messages);
    runs.forEach((run) => this.addRecord(run));
  }

  addRecord(record) {
    const known = this.#records.get(record.id);
    if (known && known.seq > record.seq) return;
    this.#records.set(record.id, record.seq === undefined ? { ...record, seq: -1 } : record);
    this.#stale.add(record.id);
  }

  /** One event of the thread's log or of a run's; raises `GapError` where one is missing before it. */
  take(stream, event) {
    const [kind, id] = stream.split(":");
    if (kind === "thread") this.#takeThread(event);
    else this.#takeRun(id, event);
  }

  /** The server sends a log again from after `seq`. */
  forget(stream, seq) {
    const [kind, id] = stream.split(":");
    if (kind === "thread") { this.#thread = { ...this.#thread, seq }; return; }
    this.#runs.delete(id);
    this.#logs.delete(id);
    this.#stale.add(id);
  }

  /** What no log has whole and is to be read: each `{message}` or `{run}` is named once. */
  takeMissing() { return this.#missing.splice(0); }

  runSeq(id) { return this.#runs.get(id)?.seq ?? -1; }

  // ---------------------------------------------------------------- what is being sent

  addSend(key, text, extra, parts) {
    const author = { kind: "user", name: "" };
    this.#outbox.set(key, {
      uid: key, key, id: null, run: null, order: Infinity, step_order: 0, author, text, parts, extra, status: "sending", error: null,
    });
    this.#sent = [...this.#sent];
  }

  getSend(key) { return this.#outbox.get(key); }

  updateSend(key, change) {
    if (!this.#outbox.has(key)) return;
    this.#outbox.set(key, { ...this.#outbox.get(key), ...change });
    this.#sent = [...this.#sent];
  }

  /** The server's answer to a send: its run, and the message where it says that too. */
  addSent(key, { run, message }) {
    const id = message?.id ?? run?.prompt;
    if (id) this.#sent.push([id, key]);
    this.updateSend(key, { status: "sent", error: null, order: message?.order ?? run?.order ?? Infinity });
    if (message?.id && !this.#thread.messages[message.id]) this.#addMessages([message]);
    if (run?.id) this.addRecord(run);
  }

  discardSend(key) {
    this.#outbox.delete(key);
    this.#sent = [...this.#sent];
  }

  // ---------------------------------------------------------------- logs, for whoever reads events

  log(id) { return this.#logs.get(id) ?? []; }

  setLog(id, events) { this.#logs.set(id, events); }

  isFollowed(id) { return this.#runs.has(id); }

  // ---------------------------------------------------------------- the state

  /** The new state; `state` holds it from now on. */
  derive() {
    const messages = this.#messages();
    const runs = this.#shownRuns();
    const approvals = runs === this.state.runs ? this.state.approvals : Object.values(runs).flatMap((run) => Object.values(run.approvals));
    const statuses = new Set(Object.values(runs).map((run) => run.status));
    const working = statuses.has("pending") || statuses.has("running");
    this.state = {
      messages, runs, connection: this.#connection, hasOlder: this.#older !== null,
      approvals: isSame(approvals, this.state.approvals) ? this.state.approvals : approvals,
      status: working ? "working" : statuses.has("waiting") ? "waiting" : "idle",
    };
    return this.state;
  }

  #messages() {
    const known = this.#thread.messages;
    if (this.#listed.from === known && this.#listed.outbox === this.#sent) return this.state.messages;
    this.#listed = { from: known, outbox: this.#sent };
    const first = this.#older === null ? null : placeOf(this.#older);
    const isOlder = (message) => first !== null && byPlace(message, first) < 0;
    const named = new Map(this.#sent.filter(([, key]) => this.#outbox.has(key)));
    const arrived = new Set();
    const messages = Object.values(known).filter((message) => !isOlder(message)).sort(byPlace).map((message) => {
      const key = this.#outbox.has(message.key) ? message.key : named.get(message.id);
      if (key) arrived.add(key);
      return this.#entry(message, key ?? message.id);
    });
    messages.push(...[...this.#outbox.values()].filter((entry) => !arrived.has(entry.key)));
    return isSame(messages, this.state.messages) ? this.state.messages : messages;
  }

  #entry(message, uid) {
    const known = this.#entries.get(message);
    if (known?.uid === uid) return known;
    // An address of the app's own may answer with a message that has a text only.
    const entry = { ...message, text: message.parts ? textOf(message) : message.text ?? "", uid };
    this.#entries.set(message, entry);
    return entry;
  }

  #shownRuns() {
    if (!this.#stale.size) return this.state.runs;
    const runs = { ...this.state.runs };
    for (const id of this.#stale) {
      const run = this.#shown(id);
      if (run) runs[id] = run;
      else delete runs[id];
    }
    this.#stale.clear();
    return runs;
  }

  #shown(id) {
    const followed = this.#runs.get(id);
    const record = this.#records.get(id);
    const isBehind = record && !(followed?.done || followed?.seq >= record.seq);
    const run = isBehind ? this.#fromRecord(record) : followed;
    const answers = Object.entries(this.#answers.get(id) ?? {});
    if (!run || (!run.cut && !answers.length)) return run;
    const rows = this.#fromRecord(record ?? { id });
    return answers.reduce((so, [call, status]) => afterAnswer(so, call, status, rows), run.cut ? withRows(run, rows) : run);
  }

  #fromRecord(record) {
    const { messages } = this.#thread;
    const known = this.#recorded.get(record);
    if (known?.messages === messages) return known.run;
    const run = runFromRecords(record, Object.values(messages));
    this.#recorded.set(record, { messages, run });
    return run;
  }

  #takeRun(id, event) {
    const before = this.#runs.get(id) ?? newRun(id);
    const run = reduceRun(before, event);
    if (run === before) return;
    this.#runs.set(id, run);
    this.#stale.add(id);
    if (!this.#logs.has(id)) this.#logs.set(id, []);
    const log = this.#logs.get(id);
    if (event.seq > (log.at(-1)?.seq ?? -1)) log.push(event);
    if (event.type === "message") this.#addSaid(event, run);
    else if (event.cut && OF_A_RECORD.has(event.type)) this.#missing.push({ run: id });
  }

  /** What a run has said; of what came of a call its message names the call only. */
  #addSaid({ message, cut }, { calls }) {
    if (this.#thread.messages[message.id]?.parts) return;
    if (cut || message.parts.some((part) => part.type === "tool-result" && calls[part.call_id]?.cut)) {
      this.#miss([message]);
      return;
    }
    const parts = message.parts.map((part) => {
      if (part.type !== "tool-result") return part;
      const { status, result, error, edited } = calls[part.call_id] ?? {};
      return { ...part, status, result, error, edited };
    });
    const said = { ...message, parts };
    this.#addMessages([said]);
    if (this.#isAnswered(said)) this.#miss([said]);
  }

  #miss(messages) { this.#missing.push(...messages.map((message) => ({ message }))); }

  /** Whether a message still says of a call that its effect is not known, and somebody has said it since. */
  #isAnswered({ run, parts = [] }) {
    const answers = this.#answers.get(run);
    return Boolean(answers) && parts.some((part) => part.status === "effect_unverified" && answers[part.call_id]);
  }

  #takeThread(event) {
    const before = this.#thread;
    this.#thread = reduceThread(before, event);
    if (this.#thread === before) return;
    if (event.type === "thread.message") {
      if (event.message.run) this.#stale.add(event.message.run);
      if (event.cut) this.#miss([event.message]);
    }
    if (event.type === "thread.call" && event.status !== "pending") { // one that runs again is told of by its run's log
      this.#answers.set(event.run, { ...this.#answers.get(event.run), [event.call_id]: event.status });
      this.#stale.add(event.run);
      this.#miss(Object.values(this.#thread.messages).filter((message) => message.run === event.run && this.#isAnswered(message)));
    }
  }

  #addMessages(messages) {
    const all = { ...this.#thread.messages };
    for (const message of messages) {
      all[message.id] = message;
      if (message.run) this.#stale.add(message.run);
    }
    this.#thread = { ...this.#thread, messages: all };
  }
}
