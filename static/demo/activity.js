/** The case's raw events, run by run: read when somebody opens the list, then kept up to date. */

import { make, place, setText, time, visible, RUN_STATUS } from "./text.js";

export class Activity {
  #details; #body; #count; #thread; #lists = new Map();

  constructor(details, thread) {
    this.#details = details;
    this.#body = details.querySelector("[data-ac-activity-body]");
    this.#count = details.querySelector("[data-ac-activity-count]");
    this.#thread = thread;
    details.addEventListener("toggle", () => { if (details.open) this.#open(); });
  }

  async #open() {
    const runs = Object.values(this.#thread.state.runs);
    await Promise.all(runs.map((run) => this.#thread.loadLog(run.id).catch(() => [])));
    this.update(this.#thread.state);
  }

  update(state) {
    const runs = Object.values(state.runs).sort((a, b) => a.number - b.number);
    const total = runs.reduce((sum, run) => sum + this.#thread.log(run.id).length, 0);
    setText(this.#count, runs.length ? `· ${runs.length} ${runs.length === 1 ? "run" : "runs"}${total ? `, ${total} events` : ""}` : "");
    if (!this.#details.open) return;
    place(this.#body, runs.flatMap((run) => this.#section(run)));
  }

  #section(run) {
    if (!this.#lists.has(run.id)) {
      const marks = { "data-ac-events": run.id, tabindex: "0", "aria-label": `Events of run ${run.number}` };
      this.#lists.set(run.id, { title: make("h3"), list: make("ol", marks) });
    }
    const shown = this.#lists.get(run.id);
    const { title, list } = shown;
    const events = this.#thread.log(run.id);
    if (shown.run === run && list.children.length === events.length) return [title, list];
    shown.run = run;
    setText(title, `Run ${run.number} · ${RUN_STATUS[run.status] ?? run.status}`);
    for (const event of events.slice(list.children.length)) {
      list.append(make("li", { "data-ac-event": event.type, "data-ac-seq": event.seq },
        make("span", {}, String(event.seq)), make("span", {}, visible(event.type)), make("time", { datetime: event.ts }, time(event.ts))));
    }
    return [title, list];
  }
}
