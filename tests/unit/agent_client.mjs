// Run by test_agent_client.py: node agent_client.mjs <directory of the shipped client>
import assert from "node:assert/strict";
import { client, requests, run, serve, sockets, started } from "./agent_browser.mjs";

const { GapError, newRun, newThread, reduceRun, reduceThread, runFromRecords, timeline } = client;

const written = (text) => [{ type: "text", text }];
const agentMessage = (id, stepOrder, parts) => ({
  id, run: "r1", order: 0, step_order: stepOrder, author: { kind: "agent", name: "support" }, status: "complete", parts,
});
const call = { call_id: "c1", name: "issue_refund", arguments: { cents: 150 } };
const messages = [
  { id: "m0", run: "r1", order: 0, step_order: 0, author: { kind: "user", name: "ada" }, status: "complete", parts: written("Refund!") },
  agentMessage("m1", 1, [...written("I ask."), { type: "tool-call", ...call }]),
  { ...agentMessage("m2", 2, [{ type: "tool-result", ...call, status: "succeeded", result: { ok: true }, error: null }]), author: { kind: "tool", name: "issue_refund" } },
  agentMessage("m3", 3, written("Done.")),
];
const usage = (tokens) => ({ v: 1, input_tokens: tokens, output_tokens: 1, total_tokens: tokens + 1, details: { cached: 2 } });
const approval = { approval: "a1", call_id: "c1" };
const LOG = [
  { type: "run.created", run: "r1", thread: "t1", agent: "support", agent_version: "1", number: 1, order: 0, prompt: "m0" },
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
  { type: "message", message: { ...messages[2], parts: [{ type: "tool-result", call_id: "c1", name: call.name }] } },
  { type: "step.started", step: 3, kind: "model", attempt: 2 },
  { type: "text.delta", step: 3, text: "Done." },
  { type: "message", step: 3, message: messages[3] },
  { type: "output", value: { refund: "made" } },
  { type: "usage", step: 3, usage: usage(20) },
  { type: "done", status: "succeeded" },
].map((event, seq) => ({ v: 1, seq, ts: `2026-01-01T00:00:${String(seq).padStart(2, "0")}.000Z`, ...event }));
const RECORD = {
  id: "r1", number: 1, order: 0, seq: LOG.length - 1, prompt: "m0", retry_of: null, agent: "support", agent_version: "1", status: "succeeded", attempt: 2, output: { refund: "made" }, error: null,
  usage: { v: 1, input_tokens: 30, output_tokens: 2, total_tokens: 32, details: { cached: 4 } }, approvals: [],
};
const reduceAll = (events, run = newRun("r1")) => events.reduce(reduceRun, run);
const until = (type, count = 1) => reduceAll(LOG.slice(0, LOG.findIndex((event) => event.type === type && !--count) + 1));
const freeze = (value) => { Object.values(value ?? {}).forEach((item) => typeof item === "object" && freeze(item)); return Object.freeze(value); };

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
      rest: [run.status, run.output, run.usage, run.error, run.number, run.done, run.order, run.prompt, run.retryOf, run.seq],
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
  async "an integer that no number holds is shown digit by digit, from the socket and over HTTP"() {
    const raw = (value) => JSON.stringify(value).replaceAll('"@', "").replaceAll('@"', "");
    const given = { big: "@9007199254740993@", list: ["@-12345678901234567890@", "@0.12345678901234567890@", "@9007199254740991@"], note: '12345678901234567890 "\\' };
    const shown = ({ big, list, note }) => assert.deepEqual(
      [big, ...list, note], ["9007199254740993", "-12345678901234567890", 0.12345678901234568, 9007199254740991, given.note]);
    const { thread, socket } = await started();
    LOG.slice(0, 9).forEach((event) => socket.event("run:r1", event));
    socket.onmessage({ data: raw({ v: 1, stream: "run:r1", seq: 9, event: { ...LOG[9], arguments: given } }) });
    shown(thread.state.runs.r1.calls.c1.arguments);
    const request = { ...LOG.find((event) => event.type === "approval.request"), seq: 10, arguments: given };
    serve({ "/runs/r1/events?after=9": raw({ events: [request], next_after: 10, done: true }) });
    socket.event("run:r1", { ...LOG[9], seq: 11 });
    await new Promise(setImmediate);
    shown(thread.state.runs.r1.approvals.a1.arguments);
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
    socket.event("thread:t1", { seq: 8, type: "thread.message", message: { ...page, parts: written("again") } });
    assert.deepEqual(thread.state.messages.map((message) => [message.id, message.text]), [["m50", "again"]]);
    await thread.loadOlder();
    assert.deepEqual([thread.state.messages.map((message) => message.id), thread.state.hasOlder], [["m0", "m50"], false]);
  },
  async "a finished run is read from its records, its log on request"() {
    const { thread, socket } = await started({
      "/messages": { messages, runs: [RECORD], before: null },
      "/runs/r1/events": (_, url) => ({ events: url.includes("after=-1") ? LOG : [], next_after: LOG.length - 1, done: true }),
    });
    assert.equal(thread.state.runs.r1.steps.at(-1).text, "Done.");
    assert.deepEqual(socket.sent[0].cursors, { "thread:t1": -1 });
    assert.equal(thread.log("r1").length, 0);
    assert.equal((await thread.loadLog("r1")).length, LOG.length);
    assert.equal((await thread.loadLog("r1")).length, LOG.length);
  },
  async "an older page brings its runs with it, however many they are, in one request"() {
    const page = { ...messages[0], id: "m50", run: null, order: 50 };
    const older = [...Array(40).keys()].map((number) => ({ ...RECORD, id: `o${number}`, number, order: number, prompt: null }));
    const { thread } = await started({
      "/messages": (_, url) => (url.includes("before=") ? { messages, runs: [RECORD, ...older], before: null } : { messages: [page], runs: [], before: "50" }),
    });
    assert.deepEqual(requests.map(({ url }) => url), ["/agent/threads/t1", "/agent/threads/t1/messages"]);
    assert.deepEqual(Object.keys(thread.state.runs), []);
    requests.length = 0;
    await Promise.all([thread.loadOlder(), thread.loadOlder()]);
    assert.deepEqual(requests.map(({ url }) => url), ["/agent/threads/t1/messages?before=50"]);
    assert.equal(Object.keys(thread.state.runs).length, 41);
    assert.deepEqual(timeline(thread.state).map((entry) => entry.uid).filter((uid) => !uid.startsWith("run:o")), ["m0", "run:r1", "m50"]);
  },
  "a message that was cut leaves the step the words that were streamed"() {
    const cut = { ...LOG[8], cut: true, message: { ...messages[1], parts: ["cut"] } };
    const run = reduceAll([...LOG.slice(0, 8), cut, ...LOG.slice(9)]);
    assert.deepEqual([run.steps[0].text, run.steps[0].status, run.steps[0].message], ["I as", "complete", "m1"]);
  },
  async "what a run has said is placed by the thread's log, and has its words from the run's, whichever comes first"() {
    const placed = messages.slice(1).map(({ parts, ...place }, seq) => ({ seq, type: "thread.message", message: place }));
    const shown = ({ state }) => state.messages.map(({ id, text, parts }) => [id, text, parts?.at(-1).result]);
    const whole = [["m1", "I ask.", undefined], ["m2", "", { ok: true }], ["m3", "Done.", undefined]];
    for (const order of [[placed, LOG], [LOG, placed], [placed, LOG, placed, LOG]]) {
      const { thread, socket } = await started();
      for (const events of order) events.forEach((event) => socket.event(events === LOG ? "run:r1" : "thread:t1", event));
      assert.deepEqual(shown(thread), whole);
      assert.equal(requests.filter(({ url }) => url.includes("messages?")).length, 0);
    }
    const { thread, socket } = await started();
    placed.forEach((event) => socket.event("thread:t1", event));
    assert.deepEqual(shown(thread), whole.map(([id]) => [id, "", undefined]));
  },
  async "a record is shown with the messages that are at hand, not with those that are only placed"() {
    const { thread, socket } = await started({ "/messages": { messages: messages.slice(0, 3), runs: [{ ...RECORD, status: "running" }], before: null } });
    const { parts, ...place } = messages[3];
    socket.event("thread:t1", { seq: 0, type: "thread.message", message: place });
    assert.deepEqual(thread.state.runs.r1.steps.map(({ step, text }) => [step, text]), [[1, "I ask."]]);
  },
  async "a message that was cut in its run's log is read from the API"() {
    const { thread, socket } = await started({
      "/messages": (_, url) => (url.includes("before=0.2") ? { messages: [messages[1]], runs: [], before: "0.1" } : { messages: [], runs: [], before: null }),
    });
    LOG.slice(0, 8).forEach((event) => socket.event("run:r1", event));
    socket.event("run:r1", { ...LOG[8], cut: true, message: { ...messages[1], parts: ["cut"] } });
    await new Promise((resolve) => setTimeout(resolve));
    assert.deepEqual(thread.state.messages.map(({ id, text }) => [id, text]), [["m1", "I ask."]]);
  },
  async "a message that was cut in the thread's log is read from the API"() {
    const whole = { ...messages[0], id: "m7", run: null, order: 7, parts: written("All of it.") };
    const { thread, socket } = await started({
      "/messages": (_, url) => (url.includes("before=7.1") ? { messages: [whole], runs: [], before: "7.0" } : { messages: [], runs: [], before: "3.0" }),
    });
    socket.event("thread:t1", { seq: 0, type: "thread.message", cut: true, message: { ...whole, parts: ["cut"] } });
    await new Promise((resolve) => setTimeout(resolve));
    assert.equal(requests.at(-1).url, "/agent/threads/t1/messages?before=7.1&limit=1");
    assert.deepEqual(thread.state.messages.map(({ id, text, parts }) => [id, text, parts]), [["m7", "All of it.", whole.parts]]);
    requests.length = 0;
    await thread.loadOlder(); // the page it pages back from is still the same
    assert.deepEqual(requests.map(({ url }) => url), ["/agent/threads/t1/messages?before=3.0"]);
  },
  async "a decision is bound to the digest that was shown"() {
    const { thread, socket } = await started({ "/approvals/decide": { approvals: [] } });
    LOG.slice(0, 14).forEach((event) => socket.event("run:r1", event));
    await thread.decide([{ approval: "a1", verdict: "deny", reason: "no" }]);
    assert.deepEqual(requests.at(-1).body, { decisions: [{ approval: "a1", verdict: "deny", reason: "no", digest: "d" }] });
  },
};

await run(TESTS);
