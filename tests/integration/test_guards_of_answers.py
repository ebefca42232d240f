"""A guard judges an answer before anybody sees it: what it does not let through is nowhere to be found."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from pydantic import BaseModel, field_validator

from agentcore import (
    SYSTEM,
    Agent,
    Answer,
    AskAgain,
    Files,
    Guard,
    Limits,
    NewFile,
    ReasoningPart,
    Redact,
    Refuse,
    RunContext,
    SourcePart,
    TextPart,
    Usage,
    tool,
)
from agentcore.exceptions import ModelError
from agentcore.journal.commit import Commit
from agentcore.journal.lease import Lease
from agentcore.models import Message, Run, Step, ToolCall
from agentcore.providers import (
    CallRequested,
    DataFound,
    FileProduced,
    ModelEvent,
    ModelRequest,
    OutputDelta,
    OutputProduced,
    ProviderCalled,
    ProviderReturned,
    ReasoningDelta,
    ReasoningEnded,
    SourceFound,
    StepFinished,
    TextDelta,
    TextEnded,
    UsageReported,
)
from agentcore.services import runs
from agentcore.testing import Evidence, Turn, check_invariants
from tests.integration.kept import kept
from tests.integration.room import (
    Room,
    assert_ended_once,
    drive_as_worker,
    driven,
    fresh,
    log,
    make,
    only_event,
    types,
)
from tests.integration.says import Says

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _sound() -> Iterator[None]:
    """Every run is as the laws will have it afterwards."""
    yield
    assert [*check_invariants(list(Run.objects.values_list("pk", flat=True)), Evidence(calm=False))] == []


SECRET = "s3cr3t"
DETAILS = {"signature": f"signed {SECRET}"}
SAYS_IT_EVERYWHERE: list[Any] = [
    ReasoningDelta(f"I know {SECRET}."),
    ReasoningEnded(DETAILS),
    ProviderCalled("p1", "search", {"query": SECRET}, DETAILS),
    ProviderReturned("p1", "search", {"found": SECRET}, DETAILS),
    TextDelta(f"It is {SECRET}"),
    TextDelta(", I think."),
    SourceFound(f"About {SECRET}", f"https://example.com/{SECRET}", quote=SECRET),
    TextEnded(DETAILS),
    FileProduced("text/plain", url=f"https://example.com/{SECRET}.txt", filename=f"{SECRET}.txt"),
    FileProduced("text/plain", data=SECRET.encode(), filename=f"{SECRET}.txt", provider_details=DETAILS),
    DataFound("chart", {"title": SECRET}),
    UsageReported(Usage(10, 5, 15)),
]
ENDS = [StepFinished("stop", DETAILS)]
DONE = [TextDelta("Done."), StepFinished("stop")]


class Record(BaseModel):
    """What the agent writes down."""

    note: str


@tool(effect="pure")
async def look(what: str) -> str:
    """Look at something."""
    return f"saw {what}"


class Judge:
    """A guard that gives the verdicts it was made with, one after the other, and keeps what it was asked."""

    def __init__(self, *verdicts: Any) -> None:
        self.verdicts = list(verdicts)
        self.asked: list[tuple[Any, RunContext]] = []
        self.kept: list[str] = []

    def __call__(self, judged: Any, about: RunContext) -> Any:
        self.asked.append((judged, about))
        self.kept.append(kept())
        return self.verdicts[len(self.asked) - 1] if len(self.asked) <= len(self.verdicts) else None


def room_of(judge: Callable[..., Any], *turns: list[Any], **options: Any) -> Room:
    return make(Says(*turns), [look], guards=[Guard(after_answer=judge)], **options)


def played(room: Room) -> Run:
    """A run that a worker has driven on its own connection."""
    run = room.send()
    drive_as_worker(run)
    return fresh(run)


def in_thread(room: Room) -> list[str]:
    return [
        part.text for item in Message.objects.filter(author_kind="agent") for part in item.parts if part.type == "text"
    ]


# --- what is agreed to --------------------------------------------------------------------------------------------


def test_nothing_of_an_answer_is_kept_or_shown_before_its_guard_has_agreed() -> None:
    judge = Judge()
    saved: list[NewFile] = []

    def save(new: NewFile, about: RunContext) -> str:
        saved.append(new)
        return "f1"

    room = room_of(judge, [*SAYS_IT_EVERYWHERE, *ENDS], files=Files(save=save))
    run = played(room)
    assert run.status == "succeeded"
    (seen,) = judge.kept
    assert SECRET not in seen and "step.started" in seen, "the run is shown to be at work, and no more"
    ((answer, about),) = judge.asked
    assert about.run_id == run.pk and about.step == 1
    assert answer.text == f"It is {SECRET}, I think." and answer.data == (DataFound("chart", {"title": SECRET}),)
    assert {type(part) for part in answer.parts} >= {ReasoningPart, TextPart, SourcePart}
    assert [file.data for file in answer.files] == [SECRET.encode()] == [file.data for file in saved]
    found = types(run)
    order = ("reasoning.delta", "provider.call", "provider.result", "text.delta", "source", "file", "data", "message")
    assert [kind for kind in found if kind in order and found.index(kind)] != []
    assert all(kind in found for kind in order)
    assert only_event(run, "text.delta")["text"] == f"It is {SECRET}, I think."
    message = Message.objects.get(run=run, author_kind="agent")
    assert message.provider_details["response"] == DETAILS, "what was agreed to is kept as it is"


def test_an_answer_that_is_not_shown_while_it_is_said_is_not_written_either(monkeypatch: pytest.MonkeyPatch) -> None:
    commits: list[Commit] = []
    send = Lease.send

    def noted(lease: Lease, *said: Commit) -> Any:
        commits.extend(said)
        return send(lease, *said)

    monkeypatch.setattr(Lease, "send", noted)
    room = make([Turn(deltas=["word "] * 300)], guards=[Guard(after_answer=Judge())])
    assert played(room).status == "succeeded"
    assert all(commit.events or commit.run for commit in commits), "a commit says something"
    assert in_thread(room) == ["word " * 300]


def test_an_agent_without_a_guard_of_answers_shows_them_while_they_are_said() -> None:
    run = make(Says([*SAYS_IT_EVERYWHERE, *ENDS]), guards=[Guard(before_tool=lambda call, about: None)]).send()
    drive_as_worker(run)
    found = types(run)
    assert found.index("text.delta") < found.index("usage")
    assert fresh(run).status == "succeeded"


@pytest.mark.parametrize("sync", [True, False])
def test_a_guard_may_be_sync_or_async_and_a_sync_one_runs_off_the_event_loop(sync: bool) -> None:
    on: list[bool] = []

    def note() -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            on.append(False)
        else:
            on.append(True)

    def judge(answer: Answer, about: RunContext) -> None:
        note()

    async def judge_async(answer: Answer, about: RunContext) -> None:
        note()

    assert played(room_of(judge if sync else judge_async, DONE)).status == "succeeded"
    assert on == [not sync]


def test_calls_and_output_are_part_of_the_answer() -> None:
    judge = Judge()
    calls = [TextDelta("I look."), CallRequested("c1", "look", '{"what": "it"}', DETAILS), StepFinished("tool_calls")]
    output = [OutputDelta('{"note": "x"}'), OutputProduced({"note": "x", "extra": SECRET}), StepFinished("stop")]
    run = played(room_of(judge, calls, output, output=Record))
    assert run.output == {"note": "x"}
    first, second = (asked for asked, _ in judge.asked)
    assert [(call.name, call.arguments) for call in first.calls] == [("look", {"what": "it"})]
    assert second.output == {"note": "x"}, "it is judged as it is kept"


def test_a_guard_cannot_change_what_is_kept_by_changing_what_it_is_given() -> None:
    def judge(answer: Answer, about: RunContext) -> None:
        answer.output["note"] = answer.data[0].value["shown"] = answer.parts[0].arguments["query"] = SECRET

    said = [ProviderCalled("p", "web", {"query": "x"}), DataFound("d", {"shown": "x"}), OutputProduced({"note": "x"})]
    run = played(room_of(judge, [*said, StepFinished("stop")], output=Record))
    assert run.output == {"note": "x"} and "x" in kept() and SECRET not in kept()


def test_the_text_of_an_outputs_deltas_which_nobody_has_judged_is_not_shown() -> None:
    room = room_of(Judge(), [OutputDelta(SECRET), OutputProduced({"note": "x"}), StepFinished("stop")], output=Record)
    run = played(room)
    assert run.output == {"note": "x"} and SECRET not in kept()


# --- refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        [*SAYS_IT_EVERYWHERE, *ENDS],
        [*SAYS_IT_EVERYWHERE, CallRequested("c1", "look", {"what": SECRET}, DETAILS), StepFinished("tool_calls")],
        [TextDelta(SECRET), OutputDelta(SECRET), OutputProduced({"note": SECRET}), *ENDS],
        [TextDelta(SECRET), OutputProduced({"wrong": SECRET}), *ENDS],
    ],
    ids=["text", "calls", "output", "no valid output"],
)
def test_a_refused_answer_ends_the_run_with_the_guards_code_and_leaves_nothing(said: list[Any]) -> None:
    refuse = Refuse("leaks_secrets", "This cannot be answered here. Ask the desk.", "It named the secret.")
    room = room_of(Judge(refuse), said, output=Record if any(isinstance(e, OutputProduced) for e in said) else None)
    run = played(room)
    assert_ended_once(run, "failed")
    assert (run.error_code, run.error_message, run.error_detail) == (refuse.code, refuse.message, refuse.detail)
    error = only_event(run, "error")
    assert (error["code"], error["message"]) == (refuse.code, refuse.message) and refuse.detail not in str(log(run))
    assert SECRET not in kept() and in_thread(room) == [] and not ToolCall.objects.exists()
    assert run.used == (Usage(10, 5, 15) if SAYS_IT_EVERYWHERE[-1] in said else Usage())
    step = Step.objects.get(run=run)
    assert (step.status, step.rejected) == ("finished", None)


@pytest.mark.parametrize(
    "ends",
    [
        [StepFinished("content_filter")],
        [ModelError("cut", code="invalid_request")],
        [TextDelta("x" * 2000)],
        [object()],
    ],
    ids=["filtered", "failed", "too long", "no event"],
)
def test_what_an_answer_had_said_that_never_came_to_its_guard_is_not_kept(ends: list[Any], settings: Any) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "ANSWER_LIMIT": 1500}
    judge = Judge()
    run = played(room_of(judge, [*SAYS_IT_EVERYWHERE, *ends]))
    assert_ended_once(run, "failed")
    assert judge.asked == [] and SECRET not in kept()
    assert run.used == Usage(10, 5, 15)


def test_a_failed_try_is_not_shown_and_the_next_one_is_judged() -> None:
    judge = Judge()
    room = room_of(judge, [TextDelta(SECRET), ModelError("away", code="network", retry_after=0.01)], DONE)
    assert played(room).status == "succeeded"
    assert SECRET not in kept() and [answer.text for answer, _ in judge.asked] == ["Done."]


def test_the_answer_of_the_model_that_stands_in_is_judged_as_well() -> None:
    judge = Judge(Refuse("leaks_secrets", "This cannot be answered here."))
    away, stands_in = Says([ModelError("away", code="auth")]), Says([*SAYS_IT_EVERYWHERE, *ENDS])
    agent = Agent(name="listed", model=[away, stands_in], guards=[Guard(after_answer=judge)])
    run = agent.runs.send(agent.threads.create(user=SYSTEM), "Go", user=SYSTEM)
    drive_as_worker(run)
    assert fresh(run).error_code == "leaks_secrets" and SECRET not in kept()


class SpeaksOn:
    """Says the secret, and goes on until it is stopped."""

    name, provider = "speaks-on", "tests"

    def __init__(self) -> None:
        self.speaks = threading.Event()

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        while True:
            yield TextDelta(f"{SECRET} ")
            self.speaks.set()
            await asyncio.sleep(0.01)


def test_a_cancel_keeps_nothing_of_an_answer_that_is_not_judged() -> None:
    model = SpeaksOn()
    run = make(model, guards=[Guard(after_answer=Judge())]).send()
    with driven(run):
        assert model.speaks.wait(10)
        runs.cancel(run, user=SYSTEM)
    assert fresh(run).status == "canceled"
    assert SECRET not in kept()


def test_a_cancel_in_the_middle_of_a_guard_keeps_nothing() -> None:
    inside = threading.Event()

    async def judge(answer: Answer, about: RunContext) -> None:
        inside.set()
        await asyncio.sleep(30)

    run = room_of(judge, [*SAYS_IT_EVERYWHERE, *ENDS]).send()
    with driven(run):
        assert inside.wait(10)
        runs.cancel(run, user=SYSTEM)
    assert fresh(run).status == "canceled"
    assert SECRET not in kept()


class Grows(BaseModel):
    """Is another one each time it is read."""

    notes: dict[str, str]

    @field_validator("notes")
    @classmethod
    def _grown(cls, notes: dict[str, str]) -> dict[str, str]:
        return {name: f"{note}!" for name, note in notes.items()}


def test_an_output_that_cannot_be_kept_is_not_described_before_it_is_judged() -> None:
    run = played(room_of(Judge(), [OutputProduced({"notes": {SECRET: "x"}}), *ENDS], output=Grows))
    assert run.error_code == "value_not_kept" and SECRET not in kept()


# --- redacted -----------------------------------------------------------------------------------------------------


def test_a_redacted_answer_is_the_text_that_was_put_in_its_place_everywhere() -> None:
    saved: list[NewFile] = []

    def save(new: NewFile, about: RunContext) -> str:
        saved.append(new)
        return "f1"

    calls = [CallRequested("c1", "look", {"what": SECRET}, DETAILS), StepFinished("tool_calls", DETAILS)]
    room = room_of(Judge(Redact("It is [removed].")), [*SAYS_IT_EVERYWHERE, *calls], DONE, files=Files(save=save))
    run = played(room)
    assert run.status == "succeeded" and saved == []
    assert SECRET not in kept() and not ToolCall.objects.exists()
    assert in_thread(room) == ["It is [removed]."]
    assert only_event(run, "text.delta")["text"] == "It is [removed]."
    assert run.used == Usage(10, 5, 15)
    drive_as_worker(room.send("And now?"))
    assert SECRET not in str(room.model.requests[1]) and "It is [removed]." in str(room.model.requests[1])


def test_a_redacted_answer_may_keep_its_calls_without_what_the_provider_wants_back() -> None:
    said = [
        *SAYS_IT_EVERYWHERE,
        CallRequested("c1", "look", {"what": "it"}, DETAILS),
        StepFinished("tool_calls", DETAILS),
    ]
    room = room_of(Judge(Redact("", keep_calls=True)), said, DONE)
    run = played(room)
    assert run.status == "succeeded" and SECRET not in kept()
    assert ToolCall.objects.get().result_json == "saw it"
    assert SECRET not in str(room.model.requests[1])


def test_a_redacted_output_is_the_one_that_was_put_in_its_place() -> None:
    said = [TextDelta(SECRET), OutputDelta(SECRET), OutputProduced({"note": SECRET}), *ENDS]
    run = played(room_of(Judge(Redact("Noted.", output={"note": "[removed]"})), said, output=Record))
    assert run.output == {"note": "[removed]"} and SECRET not in kept()


def test_a_redaction_that_forgets_the_output_ends_the_run_rather_than_keep_it() -> None:
    said = [TextDelta(SECRET), OutputProduced({"note": SECRET}), *ENDS]
    run = played(room_of(Judge(Redact("Noted.")), said, output=Record))
    assert (run.status, run.error_code) == ("failed", "user_error") and "output=" in run.error_detail
    assert SECRET not in kept()


def test_a_redacted_output_that_is_not_valid_is_mended_and_what_was_said_stays_away() -> None:
    said = [TextDelta(SECRET), OutputProduced({"note": SECRET}), *ENDS]
    mended = [OutputProduced({"note": "x"}), StepFinished("stop")]
    judge = Judge(Redact("Noted.", output={"wrong": 1}))
    room = room_of(judge, said, mended, output=Record)
    run = played(room)
    assert run.output == {"note": "x"} and SECRET not in kept() and SECRET not in str(room.model.requests[1])
    assert judge.asked[1][0].text == "Noted.", "what is said beside the output is judged with it again"
    assert in_thread(room) == ["Noted."]


def test_each_guard_judges_what_the_one_before_has_left() -> None:
    first, second = Judge(Redact("one")), Judge(Redact("two"))
    room = make(Says([*SAYS_IT_EVERYWHERE, *ENDS]), guards=[Guard(after_answer=first), Guard(after_answer=second)])
    played(room)
    ((answer, _),) = second.asked
    assert answer == Answer((TextPart("one"),))
    assert in_thread(room) == ["two"] and SECRET not in kept()


@pytest.mark.parametrize("text", ["two", ""])
def test_calls_that_one_guard_has_dropped_are_not_kept_by_the_next(text: str) -> None:
    said = [TextDelta(SECRET), CallRequested("c1", "look", {"what": SECRET}), StepFinished("tool_calls")]
    guards = [Guard(after_answer=Judge(verdict)) for verdict in (Redact("one"), Redact(text, keep_calls=True))]
    room = make(Says(said), [look], guards=guards)
    assert played(room).status == "succeeded"
    assert in_thread(room) == [text or "one"] and SECRET not in kept() and not ToolCall.objects.exists()


def test_guards_that_leave_nothing_of_an_answer_end_the_run_and_tell_operators() -> None:
    run = played(room_of(Judge(Redact("", keep_calls=True)), DONE))
    assert (run.status, run.error_code) == ("failed", "user_error") and "leave nothing" in run.error_detail


def test_the_first_guard_that_refuses_decides() -> None:
    first, second = Judge(Refuse("first", "No.")), Judge(Refuse("second", "No."))
    run = played(make(Says(DONE), guards=[Guard(after_answer=first), Guard(after_answer=second)]))
    assert run.error_code == "first" and second.asked == []


def test_an_estimate_counts_what_the_model_wrote_and_not_what_stands_in_its_place(settings: Any) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "ESTIMATE_TOKENS": True}
    said = [TextDelta("word " * 400), StepFinished("stop")]
    guarded = played(room_of(Judge(Redact("No.")), said))
    assert guarded.used.output_tokens > 100


# --- asked again --------------------------------------------------------------------------------------------------


def test_an_answer_that_is_asked_for_again_is_never_seen_and_the_model_reads_why() -> None:
    judge = Judge(AskAgain("Do not name the secret."))
    said = [
        *SAYS_IT_EVERYWHERE,
        CallRequested("c1", "look", {"what": SECRET}, DETAILS),
        StepFinished("tool_calls", DETAILS),
    ]
    room = room_of(judge, said, DONE)
    run = played(room)
    assert run.status == "succeeded" and in_thread(room) == ["Done."]
    second = room.model.requests[1]
    assert second.feedback.startswith("Your last answer was not accepted") and SECRET not in str(second)
    assert second.feedback.endswith("Do not name the secret.")
    assert not second.mends_output
    assert SECRET not in kept() and not ToolCall.objects.exists()
    assert only_event(run, "step.reset")["reason"] == "answer_not_accepted"
    step = Step.objects.filter(run=run).order_by("number")[0]
    assert (step.error_code, step.error_message) == ("answer_not_accepted", "Do not name the secret.")
    assert run.used == Usage(10, 5, 15)
    assert "Do not name the secret." not in str(log(run))


def test_a_model_that_never_says_what_may_be_said_ends_the_run_with_a_code() -> None:
    said = [TextDelta(SECRET), StepFinished("stop")]
    judge = Judge(*[AskAgain("No.")] * 9)
    room = room_of(judge, *[said] * 9)
    run = played(room)
    assert_ended_once(run, "failed")
    assert run.error_code == "answer_not_accepted" and len(room.model.requests) == 3
    assert SECRET not in kept()


def test_asking_again_counts_as_a_model_call() -> None:
    judge = Judge(*[AskAgain("No.")] * 9)
    run = played(room_of(judge, *[DONE] * 9, limits=Limits(max_steps=2)))
    assert run.error_code == "limit_steps"


def test_what_was_said_beside_an_output_is_dropped_with_its_mending_that_is_not_accepted() -> None:
    """A text that was agreed to beside an output that is not valid was judged again, with the mended one."""
    judge = Judge(None, AskAgain("No."))
    wrong = [TextDelta("Noted."), OutputProduced({"wrong": 1}), StepFinished("stop")]
    right = [OutputProduced({"note": "x"}), StepFinished("stop")]
    room = room_of(judge, wrong, right, right, output=Record)
    run = played(room)
    assert run.output == {"note": "x"} and [asked.text for asked, _ in judge.asked] == ["Noted.", "Noted.", ""]
    assert in_thread(room) == []


# --- at fault -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [True, False, "", SECRET, object(), Turn, Answer(())])
def test_a_verdict_that_is_none_ends_the_run_and_shows_nothing(given: Any) -> None:
    run = played(room_of(Judge(given), [*SAYS_IT_EVERYWHERE, *ENDS]))
    assert_ended_once(run, "failed")
    assert run.error_code == "user_error" and "Redact(…)" in run.error_detail
    assert SECRET not in kept()


def _raises(answer: Answer, about: RunContext) -> None:
    raise KeyError(SECRET)


def _hangs(answer: Answer, about: RunContext) -> None:
    time.sleep(1)


async def _hangs_async(answer: Answer, about: RunContext) -> None:
    await asyncio.sleep(30)


async def _cancels_itself(answer: Answer, about: RunContext) -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize("judge", [_raises, _hangs, _hangs_async, _cancels_itself])
def test_a_guard_that_raises_or_is_late_ends_the_run_and_shows_nothing(judge: Any, settings: Any) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "TOOL_TIMEOUT": 0.2}
    run = played(room_of(judge, [*SAYS_IT_EVERYWHERE, *ENDS]))
    assert_ended_once(run, "failed")
    assert run.error_code == "guard_failed" and judge.__name__ in run.error_detail
    assert run.error_message.endswith("whoever runs this site.")
    assert SECRET not in kept()
