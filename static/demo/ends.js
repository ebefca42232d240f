/** How a run stands when nobody is writing it: a sentence by its code, and the way out for whoever reads it. */

import { time, visible } from "./text.js";

const SHORTER = "Send a shorter message, or open a new case.";
const OPERATORS = "The operators have to look at this; trying again may not help before they have.";

/** What can be done about it, where the server’s sentence does not say so and trying again is not all there is. */
const WAYS = {
  context_overflow: SHORTER, limit_tokens: SHORTER, answer_too_large: "Ask for less at once.",
  limit_steps: "Ask for less at once.", limit_time: "Ask for less at once.", limit_calls: "Ask for less at once.",
  rate_limited: "Wait a moment, then try again.", overloaded: "Wait a moment, then try again.",
  network: "Wait a moment, then try again.", timeout: "Wait a moment, then try again.",
  credits: OPERATORS, auth: OPERATORS, invalid_request: OPERATORS, internal_error: OPERATORS, agent_unknown: OPERATORS,
  agent_version_missing: OPERATORS,
};

const WAITS = {
  effect_unverified: [
    "It is not known whether this took effect, so it is not done again. A person finds out; the case goes on by itself then.",
    "It is not known whether this took effect. Find out, and say so in the admin; the run goes on then.",
  ],
  poisoned: [
    "The agent broke down several times on this message and waits for a person to look at it.",
    "The run has cost several workers and is parked. Resume or cancel it in the admin.",
  ],
  external_result: Array(2).fill("Waits for an answer from another system. You can close this page; the case goes on by itself."),
  sub_run: Array(2).fill("Waits for another agent’s work. You can close this page; the case goes on by itself."),
};

/** What a run that is not being written waits for, one sentence each; an approval has its own card. */
export const waitingWords = (reasons, operator) => reasons.filter((reason) => WAITS[reason]).map((reason) => WAITS[reason][operator ? 1 : 0]);

/** What stands in the place of words that have not come yet. */
export function heldWords(run, behind) {
  if (behind === "waiting") return "Waits for the decision above.";
  if (behind) return "Queued behind the answer above.";
  if (run.availableAt && Date.parse(run.availableAt) > Date.now()) return `The agent pauses and goes on at ${time(run.availableAt)}.`;
  return run.status === "pending" && run.seq < 1 ? "Queued…" : "Working…";
}

const isDoubtful = (run) => Object.values(run.calls).some((call) => call.status === "effect_unverified");

/** The end of a run as `{code, text, isError, mayRetry}`, or null where an answer is all there is to say. */
export function endOf({ run, retried }) {
  const doubtful = isDoubtful(run);
  const mayRetry = !retried && !doubtful;
  const open = retried ? "It was tried again below."
    : doubtful ? "It can be tried again once a person has said whether the call above took effect." : "";
  const words = (...sentences) => sentences.filter(Boolean).join(" ");
  if (run.status === "canceled") {
    const kept = run.steps.some((step) => step.text) ? "Stopped. What was written so far is kept." : "Stopped before there was an answer.";
    return { code: "canceled", text: words(kept, open), isError: false, mayRetry };
  }
  if (run.status === "failed") {
    const { code = "", message = "" } = run.error ?? {};
    const said = message ? visible(message) : "the run ended without a reason.";
    const about = `(${code ? `${code}, ` : ""}run ${run.id.slice(0, 8)})`;
    return { code: code || "failed", text: words(`The agent could not finish: ${said}`, open || WAYS[code], about), isError: true, mayRetry };
  }
  if (run.status === "succeeded" && run.finishReason === "length") {
    return { code: "length", text: "The answer is longer than the model may write at once, and was cut off here.", isError: false, mayRetry: false, mayGoOn: !retried };
  }
  return null;
}
