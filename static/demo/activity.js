/** The case's raw events, run by run: a run's are read when somebody opens it, then kept up to date. */

import { make, place, setText, time, visible, RUN_STATUS } from "./text.js";

export class Activity {
  #details; #body; #count; #thread; #sections = new Map();

  constructor(details, thread) {
    this.#details = details;
    this.#body = details.querySelector("[data-ac-activity-body]");
    this.#count = details.querySelector("[data-ac-activity-count]");
    this.#thread = thread;
    details.addEventListener("toggle", () => { if (details.open) this.#open(); });
  }

  #open() {
    this.update(this.#thread.state);
    const newest = [...this.#sections.values()].at(-1);
    if (newest) newest.node.open = true;
  }

  update(state) {
    const runs = Object.values(state.runs).sort((a, b) => a.number - b.number);
    setText(this.#count, runs.length ? `· ${runs.length} ${runs.length === 1 ? "run" : "runs"}` : "");
    if (this.#details.open) place(this.#body, runs.map((run) => this.#section(run)));
  }

  #section(run) {
    if (!this.#sections.has(run.id)) this.#sections.set(run.id, this.#make(run));
    const section = this.#sections.get(run.id);
    setText(section.title, `Run ${run.number} · ${RUN_STATUS[run.status] ?? run.status}`);
    const events = section.node.open ? this.#thread.log(run.id) : [];
    for (const event of events.slice(section.list.children.length)) {
      section.list.append(make("li", { "data-ac-event": event.type, "data-ac-seq": event.seq },
        make("span", {}, String(event.seq)), make("span", {}, visible(event.type)), make("time", { datetime: event.ts }, time(event.ts))));
    }
    return section.node;
  }

  #make(run) {
    const title = make("span");
    const note = make("p", { class: "error", role: "alert", hidden: true });
    const list = make("ol", { "data-ac-events": run.id, tabindex: "0", "aria-label": `Events of run ${run.number}` });
    const node = make("details", {}, make("summary", {}, title), note, list);
    node.addEventListener("toggle", async () => {
      if (!node.open) return;
      const error = await this.#thread.loadLog(run.id).then(() => null, (reason) => reason);
      setText(note, error ? `The events could not be read. ${error.message}` : "");
      note.hidden = !error;
      this.update(this.#thread.state);
    });
    return { node, title, list };
  }
}
