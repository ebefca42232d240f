// Run by test_agent_client.py: the log of a golden stream and its row make the same step, and hide no word of it.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { client, run } from "./agent_browser.mjs";

const { newRun, reduceRun, runFromRecords } = client;
const golden = async (name) => JSON.parse(await readFile(new URL(`../integration/golden/${name}.json`, import.meta.url), "utf8"));
const log = await golden("stream");
const { content } = await golden("row");
const message = {
  id: "m1", run: "r1", order: 0, step_order: 1, author: { kind: "agent", name: "test" }, status: "complete", finish_reason: "tool_calls", parts: content.parts,
};
const stepOf = ({ steps }) => {
  const { text, reasoning, sources, files, providerCalls, calls, status } = steps.find(({ step }) => step === 1);
  return { text, reasoning, sources, files, providerCalls, calls, status };
};

const TESTS = {
  async "the log and the row of an answer make the same step"() {
    const logged = log.reduce(reduceRun, newRun("r1"));
    const stored = runFromRecords({ id: "r1", number: 1, order: 0, agent: "test", status: "running" }, [message]);
    assert.deepEqual(stepOf(stored), stepOf(logged));
    assert.equal(stepOf(logged).text, "I look it up first.\n\nThe carrier says it is on its way.");
    assert.deepEqual(stepOf(logged).files, [{ file_id: "", url: "https://files.example/map.png", filename: "map.png", media_type: "image/png" }]);
    const [search] = stepOf(logged).providerCalls;
    assert.deepEqual([search.name, search.result, search.done], ["web_search", { pages: 2 }, true]);
  },
  async "while it streams, the text stands as it will when it is saved"() {
    const upTo = log.findIndex(({ type }) => type === "message");
    const streaming = log.slice(0, upTo).reduce(reduceRun, newRun("r1"));
    assert.equal(stepOf(streaming).text, "I look it up first.\n\nThe carrier says it is on its way.");
  },
  async "what is shown beside the text stands as the message has it, whatever was streamed before"() {
    const shown = new Set(["source", "file", "provider.call", "provider.result", "reasoning.delta"]);
    const unheard = log.map((event) => (shown.has(event.type) ? { ...event, type: "unheard" } : event)).reduce(reduceRun, newRun("r1"));
    assert.deepEqual(stepOf(unheard), stepOf(log.reduce(reduceRun, newRun("r1"))));
    assert.deepEqual([stepOf(unheard).sources.length, stepOf(unheard).files.length, stepOf(unheard).providerCalls.length], [1, 1, 1]);
  },
  async "of a message that was cut, what was streamed stays"() {
    const cut = log.map((event) => (event.type === "message" && event.step === 1 ? { ...event, cut: true, message: { ...event.message, parts: [] } } : event));
    assert.deepEqual(stepOf(cut.reduce(reduceRun, newRun("r1"))), stepOf(log.reduce(reduceRun, newRun("r1"))));
  },
  async "a repeated delta that begins a paragraph begins it once"() {
    const events = log.flatMap((event) => [event, event]);
    assert.deepEqual(stepOf(events.reduce(reduceRun, newRun("r1"))), stepOf(log.reduce(reduceRun, newRun("r1"))));
  },
};

await run(TESTS);
