// Run by test_agent_client.py: node agent_client.mjs <directory of the shipped client>
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

// Node takes a file for a module by its name only, so the files are tried under another one.
const directory = process.argv[2];
const copies = await mkdtemp(join(tmpdir(), "agent-client-"));
for (const name of ["agent-reducer", "agent-client"]) {
  const source = await readFile(join(directory, `${name}.js`), "utf8");
  await writeFile(join(copies, `${name}.mjs`), source.replaceAll("./agent-reducer.js", "./agent-reducer.mjs"));
}
const client = await import(pathToFileURL(join(copies, "agent-client.mjs")));
await rm(copies, { recursive: true });
const { AgentThread, GapError, newRun, newThread, reduceRun, reduceThread, runFromRecords, timeline } = client;

const agentMessage = (id, stepOrder, text, parts) => ({
  id, run: "r1", order: 0, step_order: stepOrder, author: { kind: "agent", name: "support" }, status: "complete", text, parts,
});
const call = { call_id: "c1", name: "issue_refund", arguments: { cents: 150 } };
const messages = [
  { id: "m0", run: "r1", order: 0, step_order: 0, author: { kind: "user", name: "ada" }, status: "complete", text: "Refund!", parts: [] },
  agentMessage("m1", 1, "I ask.", [{ type: "text", text: "I ask." }, { type: "tool-call", ...call }]),
  { ...agentMessage("m2", 2, "", [{ type: "tool-result", ...call, status: "succeeded", result: { ok: true }, error: null }]), author: { kind: "tool", name: "issue_refund" } },
  agentMessage("m3", 3, "Done.", [{ type: "text", text: "Done." }]),
];
const usage = (tokens) => ({ v: 1, input_tokens: tokens, output_tokens: 1, total_tokens: tokens + 1, details: { cached: 2 } });
const approval = { approval: "a1", call_id: "c1" };
const LOG = [
  { type: "run.created", run: "r1", thread: "t1", agent: "support", agent_version: "1", number: 1, prompt: "m0" },
  { type: "run.started", attempt: 1 },
  { type: "step.started", step: 1, kind: "model", attempt: 1 },
  { type: "text.delta", step: 1, text: "I would" },
  { type: "output.delta", step: 1, text: "{" },
  { type: "step.reset", step: 1, attempt: 1, reason: "network" },
  { type: "text.delta", step: 1, text: "I " },
  { type: "text.delta", step: 1, text: "as" },
  { type: "message", step: 1, message: messages[1] },
  { type: "tool.call", step: 1, ...call, effect: "idempotent", needs_approval: true },
  { type: "usage", step: 1, usage: usage(10) },
  { type: "step.finished", step: 1, finish_reason: "tool_calls" },
  { type: "approval.request", ...approval, name: call.name, arguments: call.arguments, digest: "d", expires_at: "2030-01-01T00:00:00Z", allowed: ["approve", "deny"] },
  { type: "run.waiting", reasons: ["approval"] },
  { type: "approval.response", ...approval, verdict: "approved", by: "olga", reason: "fine" },
  { type: "run.resumed" },
  { type: "run.started", attempt: 2 },
  { type: "something.new", step: 99 },
  { type: "tool.result", call_id: "c1", name: call.name, status: "succeeded", result: { ok: true } },
  { type: "step.started", step: 3, kind: "model", attempt: 2 },
  { type: "text.delta", step: 3, text: "Done." },
  { type: "message", step: 3, message: messages[3] },
  { type: "output", value: { refund: "made" } },
  { type: "usage", step: 3, usage: usage(20) },
  { type: "done", status: "succeeded" },
].map((event, seq) => ({ v: 1, seq, ts: `2026-01-01T00:00:${String(seq).padStart(2, "0")}.000Z`, ...event }));
const RECORD = {
  id: "r1", number: 1, agent: "support", agent_version: "1", status: "succeeded", attempt: 2, output: { refund: "made" }, error: null,
  usage: { v: 1, input_tokens: 30, output_tokens: 2, total_tokens: 32, details: { cached: 4 } }, approvals: [],
};
const reduceAll = (events, run = newRun("r1")) => events.reduce(reduceRun, run);
const until = (type, count = 1) => reduceAll(LOG.slice(0, LOG.findIndex((event) => event.type === type && !--count) + 1));
const freeze = (value) => { Object.values(value ?? {}).forEach((item) => typeof item === "object" && freeze(item)); return Object.freeze(value); };

// A browser as far as the client needs one.
const sockets = [];
globalThis.WebSocket = class {
  sent = []; readyState = 0;
  constructor(url) { this.url = String(url); sockets.push(this); }
  send(text) { this.sent.push(JSON.parse(text)); }
  close() { this.readyState = 3; }
  open() { this.readyState = 1; this.onopen(); this.frame({ v: 1, type: "attached", streams: [] }); }
  frame(frame) { this.onmessage({ data: JSON.stringify(frame) }); }
  event(stream, event) { this.frame({ v: 1, stream, seq: event.seq, event }); }
};
globalThis.document = Object.assign(new EventTarget(), { cookie: "other=1; csrftoken=tok%3Den", visibilityState: "visible" });
globalThis.location = { href: "https://desk.example/cases/1/" };
globalThis.addEventListener ??= () => {};
globalThis.removeEventListener ??= () => {};
const requests = [];
function serve(routes) {
  requests.length = 0;
  globalThis.fetch = async (url, options) => {
    const body = options.body && JSON.parse(options.body);
    requests.push({ url, ...options, body });
    const found = Object.entries(routes).find(([path]) => url.includes(path));
    const answer = await (typeof found?.[1] === "function" ? found[1](body, url) : found?.[1] ?? {});
    const status = typeof answer.status === "number" ? answer.status : 200;
    return { ok: status < 400, status, json: async () => answer.body ?? answer };
  };
}
async function started(routes = {}, seq = -1) {
  serve({ "/runs/r1/events": { events: [], next_after: -1, done: false }, "/messages": { messages: [], before: null }, "/threads/t1/runs": { runs: [] }, ...routes,
    "/threads/t1": { seq } });
  const thread = new AgentThread({ threadId: "t1", sendUrl: "/send" });
  await thread.start();
  sockets.at(-1).open();
  return { thread, socket: sockets.at(-1) };
}

const TESTS = {
  "repeated delivery changes nothing"() {
    const once = reduceAll(LOG);
    const thrice = LOG.reduce((run, _, at) => reduceAll(LOG.slice(Math.max(0, at - 3), at + 1), run), newRun("r1"));
    assert.deepEqual(thrice, once);
    assert.equal(reduceRun(once, LOG[3]), once);
  },
  "a gap raises and names what is missing"() {
    assert.throws(() => reduceRun(reduceAll(LOG.slice(0, 3)), LOG[4]), (error) => error instanceof GapError && error.expected === 3);
    assert.throws(() => reduceThread(newThread(), { seq: 1, type: "thread.run" }), GapError);
  },
  "the old state is never touched"() {
    LOG.reduce((run, event) => freeze(reduceRun(freeze(run), event)), newRun("r1"));
  },
  "a reset drops the draft and the message replaces it"() {
    assert.equal(until("text.delta").steps[0].text, "I would");
    const reset = until("step.reset");
    assert.deepEqual([reset.steps[0].text, reset.outputDraft], ["", ""]);
    assert.equal(until("text.delta", 3).steps[0].text, "I as");
    assert.deepEqual([until("message").steps[0].text, until("message").steps[0].status], ["I ask.", "complete"]);
  },
  "an approval follows its request and its answer"() {
    const waiting = until("run.waiting");
    assert.deepEqual([waiting.status, waiting.calls.c1.status, waiting.approvals.a1.status], ["waiting", "waiting", "pending"]);
    assert.deepEqual(waiting.approvals.a1.arguments, { cents: 150 });
    const decided = until("approval.response").approvals.a1;
    assert.deepEqual([decided.status, decided.decided_by, decided.reason, decided.digest], ["approved", "olga", "fine", "d"]);
  },
  "an approval keeps what its decider changed"() {
    const edited = { cents: 100 };
    const at = LOG.findIndex((event) => event.type === "approval.response");
    const run = reduceRun(reduceAll(LOG.slice(0, at)), { ...LOG[at], edited_arguments: edited });
    assert.deepEqual([run.approvals.a1.arguments, run.approvals.a1.edited_arguments], [{ cents: 150 }, edited]);
    assert.equal(until("approval.response").approvals.a1.edited_arguments, null);
  },
  "done ends the run with the sum of its usage"() {
    const run = reduceAll(LOG);
    assert.deepEqual([run.status, run.done, run.output], ["succeeded", true, { refund: "made" }]);
    assert.deepEqual(run.usage, RECORD.usage);
  },
  "records show what the log shows"() {
    const shown = (run) => ({
      texts: run.steps.filter((step) => step.text || step.calls.length).map((step) => [step.text, step.calls, step.status]),
      calls: Object.values(run.calls).map(({ name, status, result, arguments: given }) => [name, status, result, given]),
      rest: [run.status, run.output, run.usage, run.error, run.number, run.done],
    });
    assert.deepEqual(shown(runFromRecords(RECORD, messages)), shown(reduceAll(LOG)));
  },
  "a terminal run never reopens in the thread"() {
    const event = (seq, status) => ({ seq, type: "thread.run", run: "r1", number: 1, agent: "support", status });
    assert.equal([event(0, "succeeded"), event(1, "running")].reduce(reduceThread, newThread()).runs.r1.status, "succeeded");
  },
  "a run stands after its prompt and before the next turn"() {
    const prompt = { ...messages[0], uid: "m0" };
    const next = { ...prompt, id: "m9", uid: "m9", run: "r2", order: 1 };
    const sending = { ...prompt, id: null, uid: "key", run: null, order: Infinity };
    const runs = { r3: { ...newRun("r3"), number: 3 }, r2: { ...newRun("r2"), number: 2 }, r1: { ...newRun("r1"), number: 1 } };
    const order = timeline({ messages: [prompt, next, sending], runs }).map((entry) => entry.uid);
    assert.deepEqual(order, ["m0", "run:r1", "m9", "run:r2", "run:r3", "key"]);
  },
  async "a refused send keeps its text and is retried with the same key"() {
    let tries = 0;
    const { thread } = await started({
      "/send": () => (++tries === 1 ? { status: 429, body: { detail: "Wait 3 s.", code: "send_limit", retry_after: 3 } }
        : { status: 201, body: { run: { id: "r1" }, message: messages[0] } }),
    });
    await thread.send("Refund!", { files: ["f1"] });
    const [failed] = thread.state.messages;
    assert.deepEqual([failed.status, failed.text, failed.error.message, failed.error.retryAfter], ["failed", "Refund!", "Wait 3 s.", 3]);
    await thread.retrySend(failed.key);
    const sends = requests.filter((request) => request.url === "/send");
    assert.equal(sends[0].body.key, sends[1].body.key);
    assert.deepEqual([sends[1].body.files, sends[1].headers["x-csrftoken"]], [["f1"], "tok=en"]);
    assert.deepEqual(thread.state.messages.map((message) => [message.id, message.uid]), [["m0", failed.key]]);
  },
  async "a log that is faster than the answer shows the message once"() {
    let answer;
    const { thread, socket } = await started({ "/send": () => new Promise((resolve) => { answer = resolve; }) });
    const sent = thread.send("Refund!");
    const [optimistic] = thread.state.messages;
    assert.deepEqual([optimistic.status, optimistic.id], ["sending", null]);
    socket.event("thread:t1", { seq: 0, type: "thread.message", message: messages[0] });
    assert.deepEqual(thread.state.messages.map((message) => [message.id, message.uid]), [["m0", optimistic.key]]);
    answer({ status: 201, body: { run: { id: "r1" }, message: messages[0] } });
    await sent;
    assert.equal(thread.state.messages.length, 1);
  },
  async "a gap is read again over HTTP"() {
    const { thread, socket } = await started();
    socket.event("run:r1", LOG[0]);
    serve({ "/runs/r1/events?after=0": { events: LOG.slice(1, 6), next_after: 5, done: true } });
    socket.event("run:r1", LOG[5]);
    await new Promise(setImmediate);
    assert.equal(thread.state.runs.r1.seq, 5);
    assert.deepEqual(thread.log("r1").map((event) => event.seq), [0, 1, 2, 3, 4, 5]);
  },
  async "a new connection goes on from the cursors"() {
    const { thread, socket } = await started();
    socket.event("thread:t1", { seq: 0, type: "thread.run", run: "r1", number: 1, agent: "support", status: "pending" });
    LOG.slice(0, 4).forEach((event) => socket.event("run:r1", event));
    socket.readyState = 3;
    socket.onclose({ code: 1006 });
    assert.equal(thread.state.connection.status, "offline");
    thread.reconnect();
    sockets.at(-1).open();
    assert.deepEqual(sockets.at(-1).sent[0], { type: "attach", cursors: { "thread:t1": 0, "run:r1": 3 } });
    assert.deepEqual([thread.state.connection.status, sockets.at(-1).url], ["open", "wss://desk.example/ws/agent/threads/t1/"]);
    thread.close();
  },
  async "a log the server starts over is read over"() {
    const { thread, socket } = await started();
    LOG.slice(0, 4).forEach((event) => socket.event("run:r1", event));
    socket.onmessage({ data: JSON.stringify({ v: 1, type: "resync", stream: "run:r1", after: -1 }) });
    LOG.slice(0, 2).forEach((event) => socket.event("run:r1", event));
    assert.equal(thread.state.runs.r1.seq, 1);
    assert.equal(thread.log("r1").length, 2);
  },
  async "a mark is acknowledged as it is"() {
    const { socket } = await started();
    socket.frame({ v: 1, type: "mark", bytes: 65536 });
    assert.deepEqual(socket.sent.at(-1), { type: "ack", bytes: 65536 });
  },
  async "an event that comes in pieces is put together"() {
    const { thread, socket } = await started();
    const text = JSON.stringify(LOG[0]);
    const pieces = (part, piece, parts = 2) => socket.frame({ v: 1, stream: "run:r1", seq: 0, part, parts, piece });
    pieces(0, "what a follower said before it was stopped", 3);
    pieces(0, text.slice(0, 7));
    assert.equal(thread.log("r1").length, 0);
    pieces(1, text.slice(7));
    socket.event("run:r1", LOG[1]);
    assert.deepEqual(thread.log("r1"), LOG.slice(0, 2));
  },
  async "a thread that is gone is not asked for again"() {
    const { thread, socket } = await started();
    const before = sockets.length;
    socket.onclose({ code: 4404 });
    thread.reconnect();
    assert.deepEqual([thread.state.connection.status, sockets.length], ["gone", before]);
  },
  async "the thread's log is followed from where the loaded state stands"() {
    const page = { ...messages[0], id: "m50", run: null, order: 50 };
    const { thread, socket } = await started({ "/messages": (_, url) => (url.includes("before=") ? { messages: [messages[0]], before: null } : { messages: [page], before: "50" }) }, 7);
    assert.deepEqual(socket.sent[0].cursors, { "thread:t1": 7 });
    socket.event("thread:t1", { seq: 8, type: "thread.message", message: { ...page, text: "again" } });
    assert.deepEqual(thread.state.messages.map((message) => [message.id, message.text]), [["m50", "again"]]);
    await thread.loadOlder();
    assert.deepEqual([thread.state.messages.map((message) => message.id), thread.state.hasOlder], [["m0", "m50"], false]);
  },
  async "a finished run is read from its records, its log on request"() {
    const { thread, socket } = await started({
      "/messages": { messages, before: null }, "/threads/t1/runs": { runs: [RECORD] },
      "/runs/r1/events": (_, url) => ({ events: url.includes("after=-1") ? LOG : [], next_after: LOG.length - 1, done: true }),
    });
    assert.equal(thread.state.runs.r1.steps.at(-1).text, "Done.");
    assert.deepEqual(socket.sent[0].cursors, { "thread:t1": -1 });
    assert.equal(thread.log("r1").length, 0);
    assert.equal((await thread.loadLog("r1")).length, LOG.length);
    assert.equal((await thread.loadLog("r1")).length, LOG.length);
  },
  async "an older page brings the runs that the list left out"() {
    const page = { ...messages[0], id: "m50", run: null, order: 50 };
    const { thread } = await started({
      "/agent/runs/r1": RECORD,
      "/messages": (_, url) => (url.includes("before=") ? { messages, before: null } : { messages: [page], before: "50" }),
    });
    assert.deepEqual(Object.keys(thread.state.runs), []);
    await thread.loadOlder();
    assert.deepEqual(timeline(thread.state).map((entry) => entry.uid), ["m0", "run:r1", "m50"]);
  },
  async "a decision is bound to the digest that was shown"() {
    const { thread, socket } = await started({ "/approvals/decide": { approvals: [] } });
    LOG.slice(0, 14).forEach((event) => socket.event("run:r1", event));
    await thread.decide([{ approval: "a1", verdict: "deny", reason: "no" }]);
    assert.deepEqual(requests.at(-1).body, { decisions: [{ approval: "a1", verdict: "deny", reason: "no", digest: "d" }] });
  },
};

let failed = 0;
for (const [name, test] of Object.entries(TESTS)) {
  try {
    await test();
    console.log(`ok   ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL ${name}\n${error.stack}`);
  }
}
console.log(`${Object.keys(TESTS).length} tests, ${failed} failed`);
process.exit(failed ? 1 : 0);
