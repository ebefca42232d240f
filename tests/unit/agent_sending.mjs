// Run by test_agent_client.py: a message that is sent stands once, in whatever order the server tells of it.
import assert from "node:assert/strict";
import { client, requests, run, started } from "./agent_browser.mjs";

const { timeline } = client;
const prompt = (key, order = 0) => ({
  id: `m${order}`, run: null, order, step_order: 0, author: { kind: "user", name: "ada" }, status: "complete", parts: [{ type: "text", text: "Refund!" }], ...(key && { key }),
});
const messages = [prompt("", 0)];
const record = (order = 0) => ({
  id: `r${order}`, number: order + 1, order, seq: 0, prompt: `m${order}`, retry_of: null, agent: "support", agent_version: "1", status: "pending", attempt: 0,
  usage: {}, output: null, error: null, approvals: [], calls: [],
});
const said = (message, seq = 0) => ({ seq, type: "thread.message", message });
const shown = (thread) => thread.state.messages.map(({ id, uid, status }) => [id, uid, status]);

/** A thread whose POSTs are answered when the test says so. */
async function slow(seq = -1) {
  const answers = [];
  const { thread, socket } = await started({ "/send": () => new Promise((resolve) => { answers.push(resolve); }) }, seq);
  const settled = () => new Promise(setImmediate);
  const answer = async (body, status = 201) => { answers.shift()({ status, body }); await settled(); await settled(); };
  const fail = async () => { answers.shift()(Promise.reject(new TypeError("network"))); await settled(); await settled(); };
  const keys = () => requests.filter(({ url }) => url === "/send").map(({ body }) => body.key);
  return { thread, socket, answer, fail, keys };
}

const TESTS = {
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
  async "the answer first, then the frame"() {
    const { thread, socket, answer, keys } = await slow();
    thread.send("Refund!");
    const [key] = keys();
    assert.deepEqual(shown(thread), [[null, key, "sending"]]);
    await answer(record());
    assert.deepEqual(shown(thread), [[null, key, "sent"]]);
    assert.deepEqual(timeline(thread.state).map(({ uid }) => uid), [key, "run:r0"]);
    socket.event("thread:t1", said(prompt(key)));
    assert.deepEqual(shown(thread), [["m0", key, "complete"]]);
    assert.deepEqual(timeline(thread.state).map(({ uid }) => uid), [key, "run:r0"]);
  },
  async "the frame first, then the answer"() {
    const { thread, socket, answer, keys } = await slow();
    thread.send("Refund!");
    const [key] = keys();
    socket.event("thread:t1", said(prompt(key)));
    assert.deepEqual(shown(thread), [["m0", key, "complete"]]);
    await answer(record());
    assert.deepEqual(shown(thread), [["m0", key, "complete"]]);
  },
  async "an answer that is lost after the frame has come is no failure"() {
    const { thread, socket, fail, keys } = await slow();
    thread.send("Refund!");
    const [key] = keys();
    socket.event("thread:t1", said(prompt(key)));
    await fail();
    assert.deepEqual(shown(thread), [["m0", key, "complete"]]);
  },
  async "a send that failed and arrived all the same stands once, and is sent again with its key"() {
    const { thread, socket, fail, answer, keys } = await slow();
    thread.send("Refund!");
    await fail();
    const [key] = keys();
    assert.deepEqual(shown(thread), [[null, key, "failed"]]);
    thread.retrySend(key);
    socket.event("thread:t1", said(prompt(key)));
    assert.deepEqual(shown(thread), [["m0", key, "complete"]]);
    await answer(record(), 200);
    assert.deepEqual([shown(thread), keys()], [[["m0", key, "complete"]], [key, key]]);
  },
  async "a frame that never came is no loss: the run's own answer keeps the message in its place"() {
    const { thread, socket, answer, keys } = await slow(4);
    thread.send("Refund!");
    await answer(record(1));
    thread.send("And this?");
    const [first, second] = keys();
    assert.deepEqual(timeline(thread.state).map(({ uid }) => uid), [first, "run:r1", second]);
    socket.event("thread:t1", said(prompt(second, 2), 6));
    assert.deepEqual(socket.sent.at(-1), { type: "attach", cursors: { "thread:t1": 4 } }); // the gap is asked for
    socket.event("thread:t1", said(prompt(first, 1), 5));
    socket.event("thread:t1", said(prompt(second, 2), 6));
    assert.deepEqual(timeline(thread.state).map(({ uid }) => uid), [first, "run:r1", second]);
    assert.deepEqual(thread.state.messages.map(({ id }) => id), ["m1", "m2"]);
  },
  async "the same text from another tab is another message"() {
    const { thread, socket, answer, keys } = await slow();
    thread.send("Refund!");
    const [key] = keys();
    socket.event("thread:t1", said(prompt("of-the-other-tab", 0)));
    assert.deepEqual(shown(thread), [["m0", "m0", "complete"], [null, key, "sending"]]);
    await answer(record(1));
    socket.event("thread:t1", said(prompt(key, 1), 1));
    assert.deepEqual(shown(thread), [["m0", "m0", "complete"], ["m1", key, "complete"]]);
  },
  async "an address of the app's own that keeps no key is matched by what it answers"() {
    const { thread, socket, answer, keys } = await slow();
    thread.send("Refund!");
    const [key] = keys();
    await answer({ run: { id: "r0" }, message: prompt("") });
    assert.deepEqual(shown(thread), [["m0", key, "complete"]]);
    socket.event("thread:t1", said(prompt("")));
    assert.deepEqual(shown(thread), [["m0", key, "complete"]]);
  },
  async "an address of the app's own may answer with a text alone"() {
    const { parts, ...placed } = prompt("");
    for (const message of [{ ...placed, text: "Hi" }, { text: "Hi" }]) {
      const { thread, answer } = await slow();
      thread.send("Hi");
      await answer({ run: { id: "r0" }, message });
      assert.deepEqual(thread.state.messages.map(({ id, text }) => [id, text]), [[message.id ?? null, "Hi"]]);
    }
  },
  async "an answer that is no JSON, such as a log-in page, is not taken for a delivery"() {
    const { thread } = await started({});
    const before = globalThis.fetch;
    globalThis.fetch = async () => ({ ok: true, status: 200, text: async () => "<html>" });
    await thread.send("Refund!");
    globalThis.fetch = before;
    const [{ status, text, error }] = thread.state.messages;
    assert.deepEqual([status, text], ["failed", "Refund!"]);
    assert.match(error.message, /Reload the page/);
  },
};

await run(TESTS);
