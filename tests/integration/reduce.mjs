// Run by test_draft_fuzz.py: a line of {log, message} in, a line of the step out, as each of them shows it.
import { createInterface } from "node:readline";
import { client } from "../unit/agent_browser.mjs";

const { newRun, reduceRun, runFromRecords } = client;
const record = { id: "r1", number: 1, order: 0, agent: "test", status: "running" };
const stepOf = ({ steps }) => {
  const step = steps.find((item) => item.step === 1) ?? {};
  const { text = "", reasoning = "", sources = [], files = [], providerCalls = [] } = step;
  return { text, reasoning, sources, files, providerCalls };
};
const reduced = (log) => stepOf(log.reduce(reduceRun, newRun("r1")));

for await (const line of createInterface({ input: process.stdin })) {
  const { log, message } = JSON.parse(line);
  const streamed = reduced(log.filter(({ type }) => type !== "message"));
  const stored = stepOf(runFromRecords(record, message ? [message] : []));
  process.stdout.write(`${JSON.stringify({ streamed, logged: reduced(log), stored })}\n`);
}
