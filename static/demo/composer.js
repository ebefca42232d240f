/** The composer: text, files with their upload state, Enter sends. It knows no agent, only what to call. */

import { make, size, visible } from "./text.js";

const MOST_BYTES = 2 * 1024 * 1024;
const HINT = "Enter sends, Shift+Enter starts a new line.";

export class Composer {
  #files = new Map();
  #text; #chips; #note; #input; #uploadUrl; #csrf; #send;

  constructor(form, { uploadUrl, csrf, send, stop }) {
    const find = (mark) => form.querySelector(`[data-ac-${mark}]`);
    this.form = form;
    [this.#text, this.#chips, this.#note, this.#input] = ["text", "chips", "compose-note", "file-input"].map(find);
    this.#uploadUrl = uploadUrl;
    this.#csrf = csrf;
    this.#send = send;
    find("attach").addEventListener("click", () => this.#input.click());
    this.stopButton = find("stop");
    this.stopButton.addEventListener("click", stop);
    this.#input.addEventListener("change", () => { this.#add(this.#input.files); this.#input.value = ""; });
    form.addEventListener("submit", (event) => { event.preventDefault(); this.#submit(); });
    this.#text.addEventListener("input", () => this.#fit());
    this.#text.addEventListener("keydown", (event) => {
      // While an input method composes, Enter picks a word; 229 is how Safari says so after compositionend.
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229) {
        event.preventDefault();
        this.#submit();
      }
      if (event.key === "Escape" && !this.stopButton.hidden && !event.isComposing) stop();
    });
    this.#text.addEventListener("paste", (event) => {
      if (event.clipboardData?.files.length) { event.preventDefault(); this.#add(event.clipboardData.files); }
    });
    for (const type of ["dragover", "dragleave", "drop"]) {
      document.addEventListener(type, (event) => {
        if (!event.dataTransfer?.types.includes("Files")) return;
        event.preventDefault();
        form.classList.toggle("drop", type === "dragover");
        if (type === "drop") this.#add(event.dataTransfer.files);
      });
    }
    this.#fit();
  }

  get empty() { return !this.#text.value.trim() && !this.#files.size; }

  focus() { this.#text.focus(); }

  /** Put a text into the composer, for the reader to look over and send. */
  fill(text) {
    this.#text.value = text;
    this.#fit();
    this.#text.focus();
  }

  note(text, bad = false) {
    this.#note.textContent = text || HINT;
    this.#note.classList.toggle("error", bad);
  }

  #fit() {
    this.#text.style.height = "auto";
    this.#text.style.height = `${this.#text.scrollHeight + 2}px`;
  }

  #submit() {
    const text = this.#text.value.trim();
    const files = [...this.#files.values()];
    if (!text && !files.length) return;
    if (files.some((file) => file.state === "uploading")) return this.note("A file is still being sent; one moment.");
    if (files.some((file) => file.state === "failed")) return this.note("Remove the file that could not be sent, or try it again.", true);
    if (!text) return this.note("Write a few words about the file.", true);
    this.note("");
    const parts = files.map(({ stored }) => ({ type: "file", file_id: stored.id, filename: stored.name, media_type: stored.media_type }));
    this.#text.value = "";
    this.#files.clear();
    this.#chips.replaceChildren();
    this.#fit();
    return this.#send(text, files.map(({ stored }) => stored.id), parts);
  }

  #add(list) {
    for (const blob of list) {
      const file = { key: crypto.randomUUID(), blob, name: blob.name, state: "uploading", error: "", stored: null };
      this.#files.set(file.key, file);
      if (blob.size > MOST_BYTES) {
        Object.assign(file, { state: "failed", error: `larger than ${size(MOST_BYTES)}`, final: true });
        this.#draw(file);
      } else {
        this.#upload(file);
      }
    }
    this.note("");
  }

  async #upload(file) {
    Object.assign(file, { state: "uploading", error: "" });
    this.#draw(file);
    const body = new FormData();
    body.append("file", file.blob, file.name);
    try {
      const headers = { accept: "application/json", "x-csrftoken": this.#csrf() };
      const response = await fetch(this.#uploadUrl, { method: "POST", body, headers, credentials: "same-origin" });
      const answer = await response.json().catch(() => ({}));
      if (response.ok) Object.assign(file, { state: answer.status, stored: answer });
      else Object.assign(file, { state: "failed", error: answer.detail || `the server answered ${response.status}`, final: response.status < 429 });
      // Stored, though its text could not be read: it may be sent all the same.
      if (response.ok && answer.status === "failed") Object.assign(file, { state: "metadata_only", error: answer.error });
    } catch {
      Object.assign(file, { state: "failed", error: "the server cannot be reached" });
    }
    this.#draw(file);
  }

  #draw(file) {
    if (!this.#files.has(file.key)) return;
    const words = { uploading: "sending…", extracted: size(file.blob.size), picture: size(file.blob.size), metadata_only: "stored, text not readable", failed: visible(file.error) };
    const remove = () => { this.#files.delete(file.key); chip.remove(); this.note(""); };
    const chip = make("li", { class: "chip", "data-ac-chip": file.name, "data-ac-file-state": file.state, "data-ac-upload-key": file.key },
      make("span", {}, visible(file.name)),
      make("small", file.state === "failed" ? { role: "alert" } : {}, words[file.state] ?? ""),
      file.state === "failed" && !file.final
        ? make("button", { type: "button", "aria-label": `Try ${file.name} again`, "data-ac-file-retry": "", onclick: () => this.#upload(file) }, "↻") : null,
      make("button", { type: "button", "aria-label": `Remove ${file.name}`, "data-ac-file-remove": "", onclick: remove }, "×"),
    );
    const old = this.#chips.querySelector(`[data-ac-upload-key="${file.key}"]`);
    if (old) old.replaceWith(chip);
    else this.#chips.append(chip);
  }
}
