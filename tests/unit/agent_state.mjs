// Run by test_agent_client.py: what did not change keeps its identity, and every turn shows how its run stands.
import assert from "node:assert/strict";
import { client, requests, run, sockets, started } from "./agent_browser.mjs";

const { newRun, timeline, waitsFor } = client;
const TURNS = 100;
const prompt = (order) => ({
  id: `m${order}`, run: null, order, step_order: 0, author: { kind: "user", name: "ada" }, status: "complete", parts: [{ type: "text", text: `Question ${order}` }],
});
const answer = (order) => ({
  ...prompt(order), id: `a${order}`, run: `r${order}`, step_order: 1, author: { kind: "agent", name: "support" }, parts: [{ type: "text", text: `Answer ${order}` }],
});
const record = (order, more = {}) => ({
  id: `r${order}`, number: order + 1, order, seq: 5, prompt: `m${order}`, retry_of: null, agent: "support", agent_version: "1", status: "succeeded",
  waiting_for: [], attempt: 1, usage: {}, output: null, error: null, calls: [], approvals: [], ...more,
});
const many = [...Array(TURNS).keys()];
const page = (runs, messages = []) => ({ "/messages": { messages, runs, before: null } });
const event = (seq, type, more = {}) => ({ v: 1, seq, ts: "2030-01-01T00:00:00.000Z", type, ...more });
const opening = (order) => event(0, "run.created", { number: order + 1, order, agent: "support", prompt: `m${order}` });
const failed = { status: "failed", error: { code: "network", message: "The model cannot be reached." } };
const kept = (before, after) => Object.keys(after).filter((name) => before[name] === after[name]);

const TESTS = {
  async "one more event changes its run and nothing else"() {
    const { thread, socket } = await started(page(many.map((order) => record(order)), many.flatMap((order) => [prompt(order), answer(order)])));
    socket.event("thread:t1", event(0, "thread.message", { message: prompt(TURNS) }));
    socket.event(`run:r${TURNS}`, opening(TURNS));
    socket.event(`run:r${TURNS}`, event(1, "run.started", { attempt: 1 }));
    const before = thread.state;
    const entries = new Map(timeline(before).map((entry) => [entry.uid, entry]));
    socket.event(`run:r${TURNS}`, event(2, "text.delta", { step: 1, text: "More" }));
    const after = thread.state;
    assert.deepEqual(kept(before, after), ["messages", "connection", "hasOlder", "approvals", "status"]);
    const changed = Object.keys(after.runs).filter((id) => before.runs[id] !== after.runs[id]);
    assert.deepEqual(changed, [`r${TURNS}`]);
    const redrawn = timeline(after).filter(({ uid, message, run: shown }) => entries.get(uid).message !== message || entries.get(uid).run !== shown);
    assert.deepEqual(redrawn.map(({ uid }) => uid), [`run:r${TURNS}`]);
  },
  async "one more message changes no other"() {
    const { thread, socket } = await started(page([], many.map(prompt)));
    const before = thread.state.messages;
    socket.event("thread:t1", event(0, "thread.message", { message: prompt(TURNS) }));
    assert.deepEqual(thread.state.messages.filter((message) => !before.includes(message)).map(({ id }) => id), [`m${TURNS}`]);
  },
  async "a delta leaves the steps before it as they are"() {
    const { thread, socket } = await started();
    socket.event("run:r0", opening(0));
    socket.event("run:r0", event(1, "run.started", { attempt: 1 }));
    socket.event("run:r0", event(2, "text.delta", { step: 1, text: "First" }));
    socket.event("run:r0", event(3, "text.delta", { step: 3, text: "Sec" }));
    const [first] = thread.state.runs.r0.steps;
    socket.event("run:r0", event(4, "text.delta", { step: 3, text: "ond" }));
    assert.equal(thread.state.runs.r0.steps[0], first);
    assert.equal(thread.state.runs.r0.steps[1].text, "Second");
  },
  async "a run that said nothing stands in its turn, failed, after an answered one"() {
    const { thread } = await started(page([record(0), record(1, failed)], [prompt(0), answer(0), prompt(1)]));
    assert.deepEqual(timeline(thread.state).map(({ uid }) => uid), ["m0", "run:r0", "m1", "run:r1"]);
    assert.deepEqual(thread.state.runs.r1.error, { retry_after: null, ...failed.error });
    assert.deepEqual(requests.map(({ url }) => url), ["/agent/threads/t1", "/agent/threads/t1/messages"]);
  },
  async "a run without a prompt stands in its turn too"() {
    const { thread } = await started(page([record(1, { ...failed, prompt: null })], [prompt(0), prompt(2)]));
    assert.deepEqual(timeline(thread.state).map(({ uid }) => uid), ["m0", "run:r1", "m2"]);
  },
  async "a run that was tried again says so, whatever it is a retry of"() {
    const again = (number, retryOf) => ({ ...record(0, failed), id: `again${number}`, number, retry_of: retryOf });
    const { thread } = await started(page([record(0, failed), again(2, "r0"), again(3, "r0")], [prompt(0)]));
    assert.deepEqual(timeline(thread.state).filter((entry) => entry.run).map(({ uid, retried }) => [uid, retried]), [
      ["run:r0", true], ["run:again2", true], ["run:again3", false],
    ]);
  },
  async "a retry shows before the socket tells of it"() {
    const again = { ...record(0), id: "again", number: 2, retry_of: "r0", status: "pending", seq: 0 };
    const { thread } = await started({ ...page([record(0, failed)], [prompt(0)]), "/runs/r0/retry": { status: 201, body: again } });
    await thread.retryRun("r0");
    assert.deepEqual(timeline(thread.state).map(({ uid, retried }) => [uid, retried]), [["m0", undefined], ["run:r0", true], ["run:again", false]]);
    assert.equal(thread.state.status, "working");
  },
  async "a run that goes on is shown from its record until its log has caught up"() {
    const waiting = record(0, { status: "waiting", waiting_for: ["poisoned"], seq: 2 });
    const { thread, socket } = await started(page([waiting], [prompt(0)]));
    assert.deepEqual([thread.state.runs.r0.status, waitsFor(thread.state.runs.r0)], ["waiting", ["poisoned"]]);
    socket.event("run:r0", opening(0));
    const shown = thread.state.runs.r0;
    socket.event("run:r0", event(1, "run.started", { attempt: 1 }));
    assert.equal(thread.state.runs.r0, shown); // not drawn again for each event of a past it is ahead of
    socket.event("run:r0", event(2, "run.waiting", { reasons: ["poisoned"] }));
    assert.deepEqual([thread.state.runs.r0.seq, waitsFor(thread.state.runs.r0)], [2, ["poisoned"]]);
    socket.event("run:r0", event(3, "run.resumed"));
    assert.equal(thread.state.runs.r0.status, "pending");
  },
  async "a run is queued behind what lives before it"() {
    const pending = (order) => record(order, { status: "pending", seq: 0 });
    const { thread } = await started(page([record(0, { status: "waiting", waiting_for: ["approval"] }), pending(1), pending(2)], [0, 1, 2].map(prompt)));
    assert.deepEqual(timeline(thread.state).filter((entry) => entry.run).map(({ behind }) => behind), ["", "waiting", "pending"]);
  },
  async "what a person said of a call after its run had ended is shown"() {
    const call = { call_id: "c1", name: "pay", arguments: {} };
    const asked = { ...answer(0), parts: [{ type: "tool-call", ...call }] };
    const doubtful = record(0, { ...failed, calls: [{ call_id: "c1", name: "pay", status: "effect_unverified", error: "" }] });
    const { thread, socket } = await started(page([doubtful], [prompt(0), asked]));
    assert.equal(thread.state.runs.r0.calls.c1.status, "effect_unverified");
    socket.event("thread:t1", event(0, "thread.call", { run: "r0", call_id: "c1", name: "pay", status: "succeeded", by: "olga" }));
    assert.equal(thread.state.runs.r0.calls.c1.status, "succeeded");
  },
  "an answer that has come is nothing a run waits for"() {
    const calls = { c1: { call_id: "c1", status: "effect_unverified" } };
    const approvals = { a1: { id: "a1", call_id: "c0", status: "approved" } };
    const waiting = { ...newRun("r0"), status: "waiting", reasons: ["approval", "effect_unverified"], calls, approvals };
    assert.deepEqual(waitsFor(waiting), ["effect_unverified"]);
    assert.deepEqual(waitsFor({ ...waiting, status: "failed" }), []);
  },
  async "the cursors of very many open runs fit into one frame"() {
    const { thread, socket } = await started();
    for (const order of many) socket.event(`run:r${order}`, opening(order));
    socket.onclose({ code: 1006 });
    thread.reconnect();
    sockets.at(-1).open();
    const { cursors } = sockets.at(-1).sent[0];
    assert.equal(Object.keys(cursors).length, 64);
    assert.equal(cursors[`run:r${TURNS - 1}`], 0);
    thread.close();
  },
};

await run(TESTS);
