/** How a run stands when nobody is writing it: a sentence by its code, and the way out for whoever reads it. */

import { time, visible } from "./text.js";

const SHORTER = "Send a shorter message, or open a new case.";
const OPERATORS = "The operators have to look at this; trying again may not help before they have.";

const LESS = "Ask for less at once.";
const OTHERWISE = "Ask in another way.";
const LATER = "Wait a moment, then try again.";
const SAID = ""; // the server’s sentence says what can be done

/** What can be done about it, for every code that a run fails with. */
const WAYS = {
  context_overflow: SHORTER, limit_tokens: SHORTER, context_too_large: SAID, files_too_large: SAID,
  limit_steps: LESS, limit_time: LESS, limit_calls: LESS, limit_cost: LESS,
  limit_repeats: OTHERWISE, output_invalid: OTHERWISE, answer_not_accepted: SAID,
  answer_too_long: SAID, too_many_calls: SAID, refused: SAID, content_filter: SAID,
  rate_limited: LATER, overloaded: LATER, network: LATER, timeout: LATER, provider_error: SAID, empty_answer: SAID,
  credits: OPERATORS, auth: OPERATORS, invalid_request: OPERATORS, internal_error: OPERATORS,
  model_failed: SAID, context_failed: SAID, tools_failed: SAID, files_failed: SAID, needs_approval_failed: SAID, price_failed: SAID, policy_failed: SAID, guard_failed: SAID,
  effect_unverified: SAID,
  user_error: OPERATORS, model_not_configured: OPERATORS, value_not_kept: OPERATORS, unfinished: OPERATORS, not_run: OPERATORS, illegal_move: OPERATORS,
  duplicate_agent: OPERATORS, agent_unknown: OPERATORS, agent_version_missing: OPERATORS,
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
