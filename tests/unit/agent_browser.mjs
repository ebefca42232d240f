// A browser as far as the shipped client needs one, for the tests of it: node <test> <directory of the shipped client>
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

// Node takes a file for a module by its name only, so the files are tried under another one.
const directory = process.argv[2];
const copies = await mkdtemp(join(tmpdir(), "agent-client-"));
for (const name of ["agent-json", "agent-reducer", "agent-store", "agent-client"]) {
  const source = await readFile(join(directory, `${name}.js`), "utf8");
  await writeFile(join(copies, `${name}.mjs`), source.replaceAll(/".\/(agent-[a-z]+).js"/g, "\"./$1.mjs\""));
}
export const client = await import(pathToFileURL(join(copies, "agent-client.mjs")));
await rm(copies, { recursive: true });
export const sockets = [];
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
export const requests = [];
export function serve(routes) {
  requests.length = 0;
  globalThis.fetch = async (url, options) => {
    const body = options.body && JSON.parse(options.body);
    requests.push({ url, ...options, body });
    const found = Object.entries(routes).find(([path]) => url.includes(path));
    const answer = await (typeof found?.[1] === "function" ? found[1](body, url) : found?.[1] ?? {});
    const status = typeof answer.status === "number" ? answer.status : 200;
    const text = typeof answer === "string" ? answer : JSON.stringify(answer.body ?? answer);
    return { ok: status < 400, status, text: async () => text };
  };
}
export async function started(routes = {}, seq = -1) {
  serve({ "/runs/r1/events": { events: [], next_after: -1, done: false }, "/messages": { messages: [], before: null }, "/threads/t1/runs": { runs: [] }, ...routes,
    "/threads/t1": { seq } });
  const thread = new client.AgentThread({ threadId: "t1", sendUrl: "/send" });
  await thread.start();
  sockets.at(-1).open();
  return { thread, socket: sockets.at(-1) };
}

export async function run(tests) {
  let failed = 0;
  for (const [name, test] of Object.entries(tests)) {
    try {
      await test();
      console.log(`ok   ${name}`);
    } catch (error) {
      failed += 1;
      console.log(`FAIL ${name}\n${error.stack}`);
    }
  }
  console.log(`${Object.keys(tests).length} tests, ${failed} failed`);
  process.exit(failed ? 1 : 0);
}
