"""One support case from the first message to the refund, as people would live it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .desk_client import Desk, Watch, expect

ORDER = "A-1001"
CENTS = 150
TEXT = f"My order {ORDER} arrived late, see the attached letter. Please refund 1.50 EUR."
LETTER = b"To the support desk\n\nThe carrier came four days after the promised date.\nAda\n"
WHY = "The carrier confirms the delay."
Say = Callable[[str, str], None]


def play(base: str, say: Say) -> None:
    """Play the case against a running desk and say each line of it; raises `Unexpected`."""
    with Desk(base, "ada") as ada:
        case = ada.open_case("Late parcel")
        thread = ada.thread_of(case)
        say("ada", f"opens the case “Late parcel” ({case})")
        letter = ada.attach(case, "letter.txt", LETTER)
        expect(letter["status"] == "extracted", "the text of the letter to be read", letter)
        say("ada", f"attaches letter.txt ({letter['size']} bytes, {letter['status']})")
        _stranger_sees_nothing(base, case, thread, say)
        with ada.watch(thread) as watch:
            run = ada.send(case, TEXT, [letter["id"]])["run"]["id"]
            say("ada", TEXT)
            events = _follow(watch, run, "run.waiting", say)
            request = _only(events, "approval.request")
            decision = {
                "approval": request["approval"],
                "verdict": "approve",
                "digest": request["digest"],
                "reason": WHY,
            }
            refused = ada.post("/agent/approvals/decide", {"decisions": [decision]})
            expect(refused.status_code in (403, 404), "a customer to be refused the decision", refused.status_code)
            with Desk(base, "olga") as olga:
                _decide(olga, request, decision, say)
            events += _follow(watch, run, "done", say)
        _check_outcome(events)
        _check_records(ada, thread, run, events, say)


def _stranger_sees_nothing(base: str, case: str, thread: str, say: Say) -> None:
    with Desk(base, "bob") as bob:
        for path in (case, f"/agent/threads/{thread}"):
            status = bob.http.get(path).status_code
            expect(status == 404, f"404 for another customer at {path}", status)
    say("bob", "another customer: the case does not exist for him (404)")


def _decide(olga: Desk, request: dict[str, Any], decision: dict[str, Any], say: Say) -> None:
    pending = olga.get("/agent/approvals")["approvals"]
    mine = [approval for approval in pending if approval["id"] == request["approval"]]
    expect(len(mine) == 1, "the approval in the operator's queue", [approval["id"] for approval in pending])
    expect(mine[0]["arguments"] == request["arguments"], "the same arguments in queue and log", mine[0]["arguments"])
    answer = olga.post("/agent/approvals/decide", {"decisions": [decision]})
    expect(answer.status_code == 200, "the decision to be accepted", f"{answer.status_code} {answer.text[:300]}")
    say("olga", f"approves: {WHY}")


def _follow(watch: Watch, run: str, until: str, say: Say) -> list[dict[str, Any]]:
    """Collect a run's events and say what a person would see of them."""
    events = []
    deltas = 0
    for event in watch.events(f"run:{run}", until):
        events.append(event)
        kind = event["type"]
        if kind == "text.delta":
            deltas += 1
        elif kind == "message" and event["message"]["author"]["kind"] == "agent":
            for text in (part["text"] for part in event["message"]["parts"] if part["type"] == "text"):
                say("agent", f"{text}  [{deltas} deltas]")
                deltas = 0
        elif kind == "tool.call":
            say("agent", f"calls {event['name']} {_arguments(event['arguments'])}")
        elif kind == "approval.request":
            say("run", f"waits for an operator: {event['name']}, digest {event['digest'][:12]}…")
        elif kind == "tool.result":
            say(event["name"], f"{event['status']}: {event.get('error') or _arguments(event['result'])}")
        elif kind == "output":
            say("triage", _arguments(event["value"]))
        elif kind in ("run.resumed", "error", "done"):
            say(
                "run",
                {"run.resumed": "goes on by itself", "done": f"done, {event.get('status')}"}.get(kind, str(event)),
            )
    return events


def _check_outcome(events: list[dict[str, Any]]) -> None:
    seqs = [event["seq"] for event in events]
    expect(seqs == list(range(len(seqs))), "a log without gaps from 0", seqs)
    expect(events[-1].get("status") == "succeeded", "the run to succeed", events[-1])
    before, after = _result(events, "lookup_order"), _result(events, "issue_refund")
    paid = before["refundable_cents"] - after["refundable_cents"]
    expect(paid == CENTS == after["amount_cents"], f"exactly one refund of {CENTS} cents", f"{paid} cents paid")
    expect(after["approved_by"] == "olga", "the refund to name who approved it", after["approved_by"])
    _only(events, "run.resumed")
    asked = next(i for i, event in enumerate(events) if event["type"] == "approval.request")
    streamed = [event for event in events[asked:] if event["type"] == "text.delta"]
    expect(len(streamed) > 2, "the answer to stream after the approval", f"{len(streamed)} deltas")


def _check_records(ada: Desk, thread: str, run: str, events: list[dict[str, Any]], say: Say) -> None:
    """What the API serves afterwards is what was seen live."""
    log: list[dict[str, Any]] = []
    while not log or log[-1]["type"] != "done":
        page = ada.get(f"/agent/runs/{run}/events?after={log[-1]['seq'] if log else -1}&limit=500")
        expect(page["events"], "the rest of the log over HTTP", page)
        log += page["events"]
    expect(log == events, "the same log over HTTP as over the websocket", f"{len(log)} and {len(events)} events")
    record = ada.get(f"/agent/runs/{run}")
    expect(record["status"] == "succeeded" and record["output"], "the run's record with its output", record["status"])
    texts = [message["text"] for message in ada.get(f"/agent/threads/{thread}/messages")["messages"]]
    expect(texts.count(TEXT) == 1, "the customer's message once in the transcript", texts)
    say("check", f"{len(events)} events, gapless, the same over WebSocket and HTTP; one refund of {CENTS} cents")


def _only(events: Iterable[dict[str, Any]], kind: str) -> dict[str, Any]:
    found = [event for event in events if event["type"] == kind]
    expect(len(found) == 1, f"one {kind}", f"{len(found)} of them")
    return found[0]


def _result(events: Iterable[dict[str, Any]], tool: str) -> dict[str, Any]:
    found = [event for event in events if event["type"] == "tool.result" and event["name"] == tool]
    expect(len(found) == 1 and found[0]["status"] == "succeeded", f"one result of {tool}, succeeded", found)
    result: dict[str, Any] = found[0]["result"]
    return result


def _arguments(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    text = ", ".join(f"{name}={item}" for name, item in value.items() if item not in (None, ""))
    return text if len(text) <= 160 else f"{text[:160]}…"
