// Run by test_agent_client.py: what the logs do not have whole, or not any more, is read from the rows.
import assert from "node:assert/strict";
import { client, requests, run, serve, started } from "./agent_browser.mjs";

const call = { call_id: "c1", name: "pay", arguments: { note: "all of it" } };
const said = (id, stepOrder, kind, parts, order = 0) => ({
  id, run: "r1", order, step_order: stepOrder, author: { kind, name: "support" }, status: "complete", parts,
});
const asking = said("m1", 1, "agent", [{ type: "text", text: "I pay." }, { type: "tool-call", ...call }]);
const returned = (more) => said("m2", 2, "tool", [{ type: "tool-result", call_id: "c1", name: "pay", ...more }]);
const placed = ({ parts, ...place }) => place;
const record = (more = {}) => ({
  id: "r1", number: 1, order: 0, seq: -1, prompt: "m0", retry_of: null, agent: "support", agent_version: "1", status: "running", waiting_for: [], attempt: 1,
  usage: {}, output: null, error: null, calls: [], approvals: [], ...more,
});
const numbered = (events) => events.map((event, seq) => ({ v: 1, ts: "2030-01-01T00:00:00.000Z", seq, ...event }));
const opening = (order = 0) => [{ type: "run.created", run: "r1", number: 1, order, agent: "support", prompt: "m0" }, { type: "run.started", attempt: 1 }];
const cut = { cut: true };
const asked = { type: "tool.call", step: 1, ...call, effect: "unsafe", needs_approval: false };
const unknown = { type: "tool.result", call_id: "c1", name: "pay", status: "effect_unverified", error: "Nobody knows." };
const ended = [...opening(), { type: "message", step: 1, message: asking }, asked, unknown, { type: "message", message: returned({}) }, { type: "done", status: "canceled" }];

const settled = () => new Promise((resolve) => { setTimeout(resolve); });
const read = () => requests.map(({ url }) => url).filter((url) => url.includes("&limit=1") || /runs\/r1$/.test(url));
const resultOf = ({ state }) => state.messages.find(({ id }) => id === "m2")?.parts?.[0].result;
const statusOf = ({ state }) => state.messages.find(({ id }) => id === "m2")?.parts?.[0].status;
/** Messages by their place, as the API gives them one by one; `page` is what it gives first. */
const rows = (byBefore, page = { messages: [], runs: [], before: null }, runs = [record()]) => ({
  "/messages": (_, url) => {
    const before = new URL(url, "https://desk.example").searchParams.get("before");
    return before in byBefore ? { messages: [byBefore[before]].flat(), runs, before: null } : page;
  },
});
const send = (socket, events, stream = "run:r1") => numbered(events).forEach((event) => socket.event(stream, event));
const answered = (status) => ({ type: "thread.call", run: "r1", call_id: "c1", name: "pay", status, by: "olga" });

const TESTS = {
  async "a message that was cut is read whole, also where it came with what was missed"() {
    const { thread, socket } = await started(rows({ "0.2": asking }));
    const events = numbered([...opening(), { type: "message", step: 1, ...cut, message: { ...asking, parts: ["cut"] } }]);
    const routes = rows({ "0.2": asking });
    serve({ ...routes, "/runs/r1/events": { events, next_after: 2, done: true } });
    socket.event("run:r1", { seq: 3, type: "step.finished", step: 1 });
    await settled();
    assert.deepEqual(read(), ["/agent/threads/t1/messages?before=0.2&limit=1"]);
    assert.deepEqual(thread.state.messages.map(({ id, text }) => [id, text]), [["m1", "I pay."]]);
  },
  async "a message that was cut is not read where its page has come"() {
    const { socket } = await started({ "/messages": { messages: [asking], runs: [record()], before: null } });
    send(socket, [...opening(), { type: "message", step: 1, ...cut, message: { ...asking, parts: ["cut"] } }]);
    await settled();
    assert.deepEqual(read(), []);
  },
  async "a row that cannot be read now is read later, and one that is gone is not"() {
    const before = globalThis.setTimeout;
    const waits = [];
    globalThis.setTimeout = (then, wait = 0) => { if (wait && wait < 20000) waits.push(wait); return before(then, wait < 20000 ? 0 : wait); };
    try {
      for (const [statuses, tries] of [[[503, 503, 200], 3], [[404, 200], 1]]) {
        const { thread, socket } = await started({
          "/messages": (_, url) => (url.includes("before=") ? { status: statuses.shift(), body: { messages: [asking], runs: [] } } : { messages: [], before: null }),
        });
        send(socket, [...opening(), { type: "message", step: 1, ...cut, message: { ...asking, parts: ["cut"] } }]);
        for (let turn = 0; turn < 8; turn += 1) await settled();
        assert.equal(read().length, tries);
        assert.equal(thread.state.messages.length, tries === 3 ? 1 : 0);
      }
      assert.deepEqual(waits, [1000, 2000]);
    } finally {
      globalThis.setTimeout = before;
    }
  },
  async "a result that was cut is read whole, by its message"() {
    const { thread, socket } = await started(rows({ "0.3": returned({ status: "succeeded", result: "all of it" }) }));
    send(socket, [placed(returned())].map((message) => ({ type: "thread.message", message })), "thread:t1");
    send(socket, [
      ...opening(), { type: "message", step: 1, message: asking }, asked,
      { type: "tool.result", call_id: "c1", name: "pay", status: "succeeded", result: "beginning…[truncated]", ...cut },
      { type: "message", message: returned({}) },
    ]);
    assert.equal(resultOf(thread), undefined);
    await settled();
    assert.deepEqual(read(), ["/agent/threads/t1/messages?before=0.3&limit=1"]);
    assert.equal(resultOf(thread), "all of it");
    assert.deepEqual([thread.state.runs.r1.calls.c1.result, thread.state.runs.r1.calls.c1.status], ["all of it", "succeeded"]);
  },
  async "log and row say why a guard asks, and the code with which it denied a call"() {
    const { newRun, reduceRun, runFromRecords } = client;
    const denied = { call_id: "c1", name: "pay", status: "denied", error: "Closed.", code: "payments_closed" };
    const approval = { call_id: "c2", name: "pay", arguments: {}, digest: "d", allowed: ["approve"], because: "It is a lot." };
    const events = [...opening(), { type: "message", step: 1, message: asking }, asked, { type: "tool.result", ...denied }, { type: "approval.request", approval: "a1", ...approval }];
    const logged = numbered(events).reduce(reduceRun, newRun("r1"));
    const stored = runFromRecords(record({ calls: [denied], approvals: [{ id: "a1", ...approval, status: "pending" }] }), [asking]);
    for (const { calls, approvals } of [logged, stored]) {
      assert.deepEqual([calls.c1.status, calls.c1.error, calls.c1.code, approvals.a1.because], ["denied", "Closed.", "payments_closed", "It is a lot."]);
    }
  },
  async "the arguments of a call that was cut are those of the message that asks for it"() {
    const { thread, socket } = await started();
    send(socket, [...opening(), { type: "message", step: 1, message: asking }, { ...asked, ...cut, arguments: { note: "beginning" } }]);
    assert.deepEqual(thread.state.runs.r1.calls.c1.arguments, call.arguments);
    assert.deepEqual(read(), []);
  },
  async "an approval whose request was cut shows what it binds, and is decided by its digest"() {
    const approval = { id: "a1", call_id: "c1", tool: "pay", arguments: call.arguments, edited_arguments: null, digest: "d", allowed: ["approve"], expires_at: "2030-01-01T00:00:00Z", status: "pending" };
    const { thread, socket } = await started({ "/runs/r1/events": {}, "/runs/r1": record({ approvals: [approval] }), "/approvals/decide": {} });
    send(socket, [...opening(), { type: "approval.request", approval: "a1", call_id: "c1", name: "pay", arguments: { note: "beginning" }, ...cut }]);
    await settled();
    assert.deepEqual(read(), ["/agent/runs/r1"]);
    const [{ arguments: shown, allowed, status }] = thread.state.approvals;
    assert.deepEqual([shown, allowed, status], [call.arguments, ["approve"], "pending"]);
    await thread.decide([{ approval: "a1", verdict: "approve" }]);
    assert.equal(requests.at(-1).body.decisions[0].digest, "d");
  },
  async "an output that was cut is read whole"() {
    const { thread, socket } = await started({ "/runs/r1/events": {}, "/runs/r1": record({ output: { note: "all of it" } }) });
    send(socket, [...opening(), { type: "output", value: { note: "beginning" }, ...cut }]);
    assert.deepEqual(thread.state.runs.r1.output, { note: "beginning" });
    await settled();
    assert.deepEqual(thread.state.runs.r1.output, { note: "all of it" });
  },
  async "what a person said of a call after its run had ended is read, in whatever order one hears of it"() {
    const now = returned({ status: "succeeded", result: { id: 7 }, error: null, edited: null });
    const log = (socket) => send(socket, ended);
    const thread = (socket) => send(socket, [{ type: "thread.message", message: placed(returned()) }, answered("succeeded")], "thread:t1");
    const known = record({ seq: ended.length - 1, status: "canceled", calls: [{ call_id: "c1", name: "pay", status: "succeeded", error: "" }] });
    for (const order of [[log, thread], [thread, log]]) {
      const { thread: page, socket } = await started(rows({ "0.3": now }, undefined, [known]));
      order.forEach((tell) => tell(socket));
      await settled();
      assert.deepEqual(read(), ["/agent/threads/t1/messages?before=0.3&limit=1"]);
      assert.deepEqual([statusOf(page), resultOf(page)], ["succeeded", { id: 7 }]);
      const { status, result, error } = page.state.runs.r1.calls.c1;
      assert.deepEqual([status, result, error], ["succeeded", { id: 7 }, ""]);
    }
  },
  async "what a person said of a call is read, also where a page from before it comes after it"() {
    const before = returned({ status: "effect_unverified", result: null, error: "Nobody knows." });
    const now = returned({ status: "failed", result: null, error: "Given up." });
    const loose = { ...said("m50", 0, "user", [], 50), run: null };
    const { thread, socket } = await started({
      "/messages": (_, url) => (url.includes("before=50.0") ? { messages: [asking, before], runs: [], before: null }
        : url.includes("before=0.3") ? { messages: [now], runs: [], before: "0.2" } : { messages: [loose], runs: [], before: "50.0" }),
    });
    send(socket, [answered("failed")], "thread:t1");
    assert.deepEqual(read(), []);
    await thread.loadOlder();
    await settled();
    assert.equal(statusOf(thread), "failed");
    assert.equal(thread.state.hasOlder, false);
  },
  async "a call that was to run again and ended unknown once more says that"() {
    const { thread, socket } = await started();
    send(socket, [answered("pending")], "thread:t1");
    send(socket, ended);
    await settled();
    assert.equal(thread.state.runs.r1.calls.c1.status, "effect_unverified");
    assert.deepEqual(read(), []);
  },
  async "what a run of an older turn says waits for its page, and leaves no hole"() {
    const loose = { ...said("m50", 0, "user", [{ type: "text", text: "Now" }], 50), run: null };
    const opened = { ...said("m3", 0, "user", [{ type: "text", text: "Then" }], 3), run: null };
    const older = said("m3a", 1, "agent", asking.parts, 3);
    const later = said("m3b", 2, "tool", [], 3);
    const { thread, socket } = await started(rows({ "50.0": [opened, older, later] }, { messages: [loose], runs: [], before: "50.0" }));
    send(socket, [...opening(3), { type: "message", step: 1, message: older }, asked, { type: "run.waiting", reasons: ["approval"] }]);
    send(socket, [{ type: "thread.message", message: placed(later) }], "thread:t1");
    assert.deepEqual([thread.state.messages.map(({ id }) => id), thread.state.hasOlder], [["m50"], true]);
    assert.deepEqual([thread.state.runs.r1.steps[0].text, thread.state.runs.r1.status], ["I pay.", "waiting"]);
    await thread.loadOlder();
    assert.deepEqual([thread.state.messages.map(({ id }) => id), thread.state.hasOlder], [["m3", "m3a", "m3b", "m50"], false]);
  },
};

await run(TESTS);
