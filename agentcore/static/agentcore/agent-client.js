/**
 * agent-client: one agent thread in a browser; no framework, no build, no DOM.
 *
 * `AgentThread` loads a thread over HTTP, follows its logs over one websocket and sends commands.  The logs
 * become state in agent-reducer.js: what arrives twice changes nothing, what is missing is read again.
 */

import { byPlace, GapError, isTerminal, newRun, newThread, reduceRun, reduceThread, runFromRecords } from "./agent-reducer.js";

export * from "./agent-reducer.js";

const BACKOFF_MS = { first: 500, most: 15000 };
const SILENCE_MS = 50000; // the server pings every 20 s; a socket that is silent for longer is dead

/** A refused request: `status`, `code`, a sentence in `message`, and `retryAfter` seconds if known. */
export class Problem extends Error {
  constructor(status, body = {}) {
    super(body.detail || body.title || (status ? `The server answered ${status}.` : "The server cannot be reached."));
    const retryAfter = body.retry_after ?? null;
    Object.assign(this, { name: "Problem", status, code: body.code || "", id: body.id || "", retryAfter });
  }
}

/**
 * One thread: `start()` it, listen to `change`, read `state`:
 * `{messages, runs, approvals, status, connection, hasOlder}`.
 */
export class AgentThread extends EventTarget {
  #options; #thread = newThread(); #runs = {}; #records = new Map(); #logs = new Map(); #outbox = new Map();
  #catching = new Set(); #pieces = new Map();
  #older = null; #socket = null; #timer = 0; #watchdog = 0; #failures = 0; #closed = false;
  #connection = { status: "connecting", failures: 0 };
  state = { messages: [], runs: {}, approvals: [], status: "idle", connection: this.#connection, hasOlder: false };

  constructor({ threadId, agent = "", api = "/agent/", socket, sendUrl, csrfCookie = "csrftoken" }) {
    super();
    this.threadId = threadId;
    this.#options = {
      agent, api, csrfCookie,
      socket: socket ?? `/ws/agent/threads/${threadId}/`, sendUrl: sendUrl ?? `${api}threads/${threadId}/runs`,
    };
  }

  /** Load the newest page and the open runs, then follow the thread until `close()`. */
  async start() {
    addEventListener("online", this.#wake);
    document.addEventListener("visibilitychange", this.#wake);
    await this.#load();
    this.#connect();
  }

  close() {
    this.#closed = true;
    removeEventListener("online", this.#wake);
    document.removeEventListener("visibilitychange", this.#wake);
    clearTimeout(this.#timer);
    clearTimeout(this.#watchdog);
    this.#socket?.close();
  }

  /**
   * Send a message; it shows at once, and a retry of the same entry cannot send it twice.
   * `extra` goes into the request; `parts` are what the page shows beside the text until the server answers.
   */
  async send(text, extra = {}, parts = []) {
    const key = crypto.randomUUID();
    this.#outbox.set(key, { key, text, extra, parts, status: "sending", error: null, id: null });
    return this.#deliver(key);
  }

  retrySend(key) { return this.#deliver(key); }

  discard(key) { this.#outbox.delete(key); this.#changed(); }

  cancel(runId, reason = "") { return this.#post(`runs/${runId}/cancel`, { reason }); }

  retryRun(runId) { return this.#post(`runs/${runId}/retry`, {}); }

  /** Decide approvals: `[{approval, verdict: "approve" | "deny", reason}]`, bound to the arguments shown. */
  decide(decisions) {
    const digest = (id) => this.state.approvals.find((approval) => approval.id === id)?.digest ?? "";
    return this.#post("approvals/decide", {
      decisions: decisions.map((d) => ({ reason: "", ...d, digest: d.digest ?? digest(d.approval) })),
    });
  }

  async loadOlder() {
    if (this.#older === null) return;
    const query = new URLSearchParams({ before: this.#older });
    await this.#addPage(await this.#request("GET", `${this.#options.api}threads/${this.threadId}/messages?${query}`));
    this.#changed();
  }

  /** The raw events of a run, as far as they are known here or, for a finished run, on the server. */
  async loadLog(runId) {
    const log = this.#logs.get(runId) ?? [];
    if (!this.#runs[runId]?.sealed || log.at(-1)?.type === "done") return log; // a followed run's log is here already
    await this.#readLog(runId, log.at(-1)?.seq ?? -1, (event) => log.push(event));
    this.#logs.set(runId, log);
    this.#changed();
    return log;
  }

  log(runId) { return this.#logs.get(runId) ?? []; }

  /** Try the socket now instead of at the end of the back-off. */
  reconnect() {
    if (this.#closed || this.#connection.status === "gone" || this.#socket?.readyState <= 1) return;
    clearTimeout(this.#timer);
    this.#connect();
  }

  #wake = () => { if (document.visibilityState !== "hidden") this.reconnect(); };

  async #load() {
    const base = `${this.#options.api}threads/${this.threadId}`;
    // The position first: what happens after it is followed, what happened before it is read here.
    const { seq } = await this.#request("GET", base);
    this.#thread.seq = Math.max(this.#thread.seq, seq);
    // Then the runs: whatever they call finished has all its messages by the time these are read.
    const { runs } = await this.#request("GET", `${base}/runs`);
    const page = await this.#request("GET", `${base}/messages`);
    for (const run of runs) this.#records.set(run.id, run);
    await this.#addPage(page);
    await Promise.all(runs.filter((run) => !isTerminal(run.status)).map((run) => this.#catchUp(run.id)));
    this.#changed();
  }

  async #addPage({ messages, before }) {
    // The list of runs names the newest ones only.
    const unknown = ({ run }) => run && !this.#records.has(run) && !this.#runs[run];
    const named = new Set(messages.filter(unknown).map((message) => message.run));
    const found = await Promise.all([...named].map((id) => this.#request("GET", `${this.#options.api}runs/${id}`)));
    for (const run of found) this.#records.set(run.id, run);
    for (const message of messages) this.#thread.messages[message.id] = message;
    this.#older = before ?? null;
    const all = Object.values(this.#thread.messages);
    for (const record of this.#records.values()) {
      const known = this.#runs[record.id];
      if (isTerminal(record.status) && (!known || known.sealed)) this.#runs[record.id] = runFromRecords(record, all);
    }
  }

  async #catchUp(runId) {
    if (this.#catching.has(runId)) return;
    this.#catching.add(runId);
    const after = this.#runs[runId]?.seq ?? -1;
    await this.#readLog(runId, after, (event) => this.#take(`run:${runId}`, event)).finally(() => this.#catching.delete(runId));
    this.#changed();
  }

  async #readLog(runId, after, take) {
    for (;;) {
      const page = await this.#request("GET", `${this.#options.api}runs/${runId}/events?after=${after}&limit=500`);
      page.events.forEach(take);
      if (!page.events.length || page.done) return;
      after = page.next_after;
    }
  }

  #connect() {
    clearTimeout(this.#timer);
    const url = new URL(this.#options.socket, location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url);
    this.#socket = socket;
    this.#pieces.clear();
    socket.onopen = () => { this.#attach(); this.#listen(socket); };
    socket.onmessage = ({ data }) => { if (socket === this.#socket) { this.#listen(socket); this.#frame(JSON.parse(data)); } };
    socket.onclose = ({ code }) => { if (socket === this.#socket && !this.#closed) this.#lost(code); };
  }

  #listen(socket) {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => { socket.close(); if (socket === this.#socket) this.#lost(0); }, SILENCE_MS);
  }

  async #lost(code) {
    clearTimeout(this.#watchdog);
    this.#socket = null;
    this.#failures += 1;
    this.#status(code === 4404 ? "gone" : "offline");
    // A refused handshake looks like a dead network, so ask plain HTTP which of the two it is.
    if (code !== 4404 && this.#failures > 2) {
      const answer = await this.#request("GET", `${this.#options.api}threads/${this.threadId}`).catch((error) => error);
      if ([401, 403, 404].includes(answer.status)) this.#status("gone");
    }
    if (this.#connection.status === "gone" || this.#closed || this.#socket) return;
    const longest = Math.min(BACKOFF_MS.most, BACKOFF_MS.first * 2 ** this.#failures);
    this.#timer = setTimeout(() => this.#connect(), Math.max(BACKOFF_MS.first, Math.random() * longest));
  }

  #attach() {
    const cursors = { [`thread:${this.threadId}`]: this.#thread.seq };
    for (const run of Object.values(this.#runs)) if (!run.done) cursors[`run:${run.id}`] = run.seq;
    this.#socket.send(JSON.stringify({ type: "attach", cursors }));
  }

  #frame(frame) {
    if (frame.type === "attached") { this.#failures = 0; this.#status("open"); return; }
    if (frame.type === "error") { this.dispatchEvent(new CustomEvent("problem", { detail: frame })); return; }
    if (frame.type === "resync") { this.#forget(frame); return; }
    if (frame.type === "mark") { this.#socket.send(JSON.stringify({ type: "ack", bytes: frame.bytes })); return; }
    if (!frame.stream) return;
    const event = this.#whole(frame);
    if (!event) return;
    try {
      this.#take(frame.stream, { ...event, seq: frame.seq });
    } catch (error) {
      if (!(error instanceof GapError)) throw error;
      if (frame.stream.startsWith("run:")) this.#catchUp(frame.stream.slice(4)).catch(() => this.#socket?.close());
      else this.#attach();
    }
    this.#changed();
  }

  /** The event of a frame; an event that is too large for one comes as the pieces of its text, in order. */
  #whole({ stream, event, piece, part, parts }) {
    if (parts === undefined) return event;
    const text = (part === 0 ? "" : this.#pieces.get(stream) ?? "") + piece;
    this.#pieces.set(stream, text);
    if (part + 1 < parts) return null;
    this.#pieces.delete(stream);
    return JSON.parse(text);
  }

  /** The server does not know our cursor: it sends the log again, from after the position it names. */
  #forget({ stream, after }) {
    const [kind, id] = stream.split(":");
    if (kind === "thread") { this.#thread.seq = after; return; }
    delete this.#runs[id];
    this.#logs.delete(id);
  }

  #take(stream, event) {
    const [kind, id] = stream.split(":");
    if (kind === "thread") { this.#takeThread(event); return; }
    const before = this.#runs[id] ?? newRun(id);
    if (before.sealed) return;
    const run = reduceRun(before, event);
    if (run === before) return;
    this.#runs[id] = run;
    if (!this.#logs.has(id)) this.#logs.set(id, []);
    this.#logs.get(id).push(event);
  }

  #takeThread(event) {
    const message = event.type === "thread.message" ? event.message : null;
    const known = message && this.#thread.messages[message.id];
    this.#thread = reduceThread(this.#thread, event);
    if (message && !known && message.author?.kind === "user") {
      const mine = (entry) => !entry.id && entry.status === "sending" && entry.text === message.text;
      const sent = [...this.#outbox.values()].find(mine);
      if (sent) sent.id = message.id; // the log was faster than the answer to our own request
    }
  }

  async #deliver(key) {
    const entry = this.#outbox.get(key);
    Object.assign(entry, { status: "sending", error: null });
    this.#changed();
    try {
      const body = { text: entry.text, key, ...(this.#options.agent && { agent: this.#options.agent }), ...entry.extra };
      const answer = await this.#request("POST", this.#options.sendUrl, body);
      const { message } = answer;
      Object.assign(entry, { status: "sent", id: message?.id ?? entry.id });
      if (message) this.#thread.messages[message.id] ??= { run: answer.run?.id ?? null, ...message };
      return answer;
    } catch (error) {
      Object.assign(entry, { status: "failed", error });
      return null;
    } finally {
      this.#changed();
    }
  }

  #post(path, body) { return this.#request("POST", this.#options.api + path, body); }

  async #request(method, url, body) {
    const headers = { accept: "application/json" };
    if (method !== "GET") Object.assign(headers, { "content-type": "application/json", "x-csrftoken": this.csrfToken() });
    let response;
    try {
      response = await fetch(url, { method, headers, credentials: "same-origin", body: body && JSON.stringify(body) });
    } catch {
      throw new Problem(0);
    }
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) throw new Problem(response.status, answer);
    return answer;
  }

  csrfToken() {
    const found = document.cookie.split("; ").find((cookie) => cookie.startsWith(`${this.#options.csrfCookie}=`));
    return found ? decodeURIComponent(found.slice(this.#options.csrfCookie.length + 1)) : "";
  }

  #status(status) {
    this.#connection = { status, failures: this.#failures };
    this.#changed();
  }

  #changed() {
    const entries = [...this.#outbox.values()];
    const uid = new Map(entries.filter((entry) => entry.id).map((entry) => [entry.id, entry.key]));
    const messages = Object.values(this.#thread.messages).sort(byPlace)
      .map((message) => ({ ...message, uid: uid.get(message.id) ?? message.id }));
    for (const { key, id, text, parts, status, error } of entries) {
      if (id && this.#thread.messages[id]) continue;
      const author = { kind: "user", name: "" };
      const place = { order: Infinity, step_order: 0 };
      messages.push({ uid: key, key, id: null, run: null, ...place, author, text, parts, status, error });
    }
    const runs = { ...this.#runs };
    const statuses = Object.values(runs).map((run) => run.status);
    const working = statuses.some((status) => status === "pending" || status === "running");
    this.state = {
      messages, runs, connection: this.#connection, hasOlder: this.#older !== null,
      approvals: Object.values(runs).flatMap((run) => Object.values(run.approvals)),
      status: working ? "working" : statuses.includes("waiting") ? "waiting" : "idle",
    };
    this.dispatchEvent(new Event("change"));
  }
}
