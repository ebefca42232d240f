/**
 * agent-client: one agent thread in a browser; no framework, no build, no DOM.
 *
 * `AgentThread` loads a thread over HTTP, follows its logs over one websocket and sends commands.  What it learns
 * becomes state in agent-store.js: what arrives twice changes nothing, what is missing is read again.
 */

import { parseJson } from "./agent-json.js";
import { GapError } from "./agent-reducer.js";
import { ThreadStore } from "./agent-store.js";

export * from "./agent-reducer.js";

const BACKOFF_MS = { first: 500, most: 15000 };
const MOST_CURSORS = 64; // in one frame; a run that is not named is sent from its beginning
const SILENCE_MS = 50000; // the server pings every 20 s; a socket that is silent for longer is dead

// `randomUUID` exists only where the page came over HTTPS or from this machine.
const newKey = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

const WITHOUT_WORDS = {
  0: "The server cannot be reached.", 401: "You are not logged in any more.", 403: "You are not logged in any more.",
};

/** A refused request: `status`, `code`, a sentence in `message`, and `retryAfter` seconds if known. */
export class Problem extends Error {
  constructor(status, body = {}) {
    super(body.detail || body.title || WITHOUT_WORDS[status] || `The server answered ${status}.`);
    const retryAfter = body.retry_after ?? null;
    Object.assign(this, { name: "Problem", status, code: body.code || "", id: body.id || "", retryAfter });
  }
}

/**
 * One thread: `start()` it, listen to `change`, read `state`:
 * `{messages, runs, approvals, status, connection, hasOlder}`.
 */
export class AgentThread extends EventTarget {
  #options; #store; #catching = new Set(); #loading = null; #pieces = new Map();
  #socket = null; #timer = 0; #watchdog = 0; #failures = 0; #closed = false;
  #connection = { status: "connecting", failures: 0 };

  constructor({ threadId, agent = "", api = "/agent/", socket, sendUrl, csrfCookie = "csrftoken" }) {
    super();
    this.threadId = threadId;
    this.#options = {
      agent, api, csrfCookie,
      socket: socket ?? `/ws/agent/threads/${threadId}/`, sendUrl: sendUrl ?? `${api}threads/${threadId}/runs`,
    };
    this.#store = new ThreadStore(this.#connection);
  }

  get state() { return this.#store.state; }

  /** Load the newest page, then follow the thread until `close()`. */
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
    const key = newKey();
    this.#store.addSend(key, text, extra, parts);
    return this.#deliver(key);
  }

  retrySend(key) { return this.#deliver(key); }

  discard(key) { this.#store.discardSend(key); this.#changed(); }

  cancel(runId, reason = "") { return this.#command(`runs/${runId}/cancel`, { reason }); }

  /** Start the run's turn again; the new run shows at once, and the old one as tried again. */
  retryRun(runId) { return this.#command(`runs/${runId}/retry`, {}); }

  /** Decide approvals: `[{approval, verdict: "approve" | "deny", reason}]`, bound to the arguments shown. */
  decide(decisions) {
    const digest = (id) => this.state.approvals.find((approval) => approval.id === id)?.digest ?? "";
    return this.#post("approvals/decide", {
      decisions: decisions.map((d) => ({ reason: "", ...d, digest: d.digest ?? digest(d.approval) })),
    });
  }

  /** Read the next older page, with its runs: one request. */
  loadOlder() {
    if (!this.state.hasOlder) return Promise.resolve();
    const query = new URLSearchParams({ before: this.#store.older });
    this.#loading ??= this.#request("GET", `${this.#thread}/messages?${query}`)
      .then((page) => { this.#store.addPage(page); this.#readMissing(); this.#changed(); })
      .finally(() => { this.#loading = null; });
    return this.#loading;
  }

  /** The raw events of a run, as far as they are known here or, for a finished run, on the server. */
  async loadLog(runId) {
    const log = [...this.#store.log(runId)];
    if (this.#store.isFollowed(runId) || log.at(-1)?.type === "done") return this.#store.log(runId);
    await this.#readLog(runId, log.at(-1)?.seq ?? -1, (event) => log.push(event));
    this.#store.setLog(runId, log);
    this.#changed();
    return log;
  }

  log(runId) { return this.#store.log(runId); }

  /** Try the socket now instead of at the end of the back-off. */
  reconnect() {
    if (this.#closed || this.#connection.status === "gone" || this.#socket?.readyState <= 1) return;
    clearTimeout(this.#timer);
    this.#connect();
  }

  #wake = () => { if (document.visibilityState !== "hidden") this.reconnect(); };

  get #thread() { return `${this.#options.api}threads/${this.threadId}`; }

  async #load() {
    // The position first: what happens after it is followed, what happened before it is read here.
    const { seq } = await this.#request("GET", this.#thread);
    this.#store.startFrom(seq);
    this.#store.addPage(await this.#request("GET", `${this.#thread}/messages`));
    this.#changed();
  }

  async #catchUp(runId) {
    if (this.#catching.has(runId)) return;
    this.#catching.add(runId);
    const take = (event) => this.#take(`run:${runId}`, event);
    await this.#readLog(runId, this.#store.runSeq(runId), take).finally(() => this.#catching.delete(runId));
    this.#changed();
  }

  /** One event, whichever way it came. */
  #take(stream, event) {
    this.#store.take(stream, event);
    this.#readMissing();
  }

  /** Read from the rows what the logs have not whole. */
  #readMissing() {
    for (const { message, run } of this.#store.takeMissing()) {
      this.#again(() => (message ? this.#readMessage(message) : this.#readRecord(run)));
    }
  }

  /** Read, and again while the server cannot be reached or asks to wait; no event would ask for it a second time. */
  async #again(read) {
    for (let tries = 1; !this.#closed; tries += 1) {
      try {
        await read();
        return;
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        if (error.status !== 0 && error.status !== 429 && error.status < 500) return;
      }
      const wait = Math.min(BACKOFF_MS.most, BACKOFF_MS.first * 2 ** tries);
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }

  async #readMessage({ order, step_order }) {
    const query = new URLSearchParams({ before: `${order}.${step_order + 1}`, limit: 1 });
    this.#store.addMessage(await this.#request("GET", `${this.#thread}/messages?${query}`));
    this.#changed();
  }

  async #readRecord(runId) {
    this.#store.addRecord(await this.#request("GET", `${this.#options.api}runs/${runId}`));
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
    socket.onmessage = ({ data }) => { if (socket === this.#socket) { this.#listen(socket); this.#frame(parseJson(data)); } };
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
    const runs = this.#store.cursors.slice(0, MOST_CURSORS - 1).map(([id, seq]) => [`run:${id}`, seq]);
    const cursors = Object.fromEntries([[`thread:${this.threadId}`, this.#store.seq], ...runs]);
    this.#socket.send(JSON.stringify({ type: "attach", cursors }));
  }

  #frame(frame) {
    if (frame.type === "attached") { this.#failures = 0; this.#status("open"); return; }
    if (frame.type === "error") { this.dispatchEvent(new CustomEvent("problem", { detail: frame })); return; }
    if (frame.type === "resync") { this.#store.forget(frame.stream, frame.after); return; }
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
    return parseJson(text);
  }

  async #deliver(key) {
    const entry = this.#store.getSend(key);
    if (!entry) return null;
    this.#store.updateSend(key, { status: "sending", error: null });
    this.#changed();
    try {
      const body = { text: entry.text, key, ...(this.#options.agent && { agent: this.#options.agent }), ...entry.extra };
      const answer = await this.#request("POST", this.#options.sendUrl, body);
      // agentcore answers with the run; an address of the app's own may answer `{run, message}`.
      this.#store.addSent(key, answer.run || answer.message ? answer : { run: answer });
      return answer;
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      this.#store.updateSend(key, { status: "failed", error });
      return null;
    } finally {
      this.#changed();
    }
  }

  async #command(path, body) {
    const run = await this.#post(path, body);
    this.#store.addRecord(run);
    this.#changed();
    return run;
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
    const answer = await response.text().then(parseJson).catch(() => null);
    if (!response.ok) throw new Problem(response.status, answer ?? {});
    // A log-in page, say, to which the request was redirected: nothing has been done.
    if (answer === null) throw new Problem(response.status, { detail: "The server’s answer makes no sense here. Reload the page." });
    return answer;
  }

  csrfToken() {
    const found = document.cookie.split("; ").find((cookie) => cookie.startsWith(`${this.#options.csrfCookie}=`));
    return found ? decodeURIComponent(found.slice(this.#options.csrfCookie.length + 1)) : "";
  }

  #status(status) {
    this.#connection = { status, failures: this.#failures };
    this.#store.setConnection(this.#connection);
    this.#changed();
  }

  #changed() {
    this.#store.derive();
    this.dispatchEvent(new Event("change"));
  }
}
