"""Files of the application reach a model, and files that a model makes reach the application."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from django.conf import LazySettings

from agentcore import FilePart, Files, NewFile, RunContext, TextPart, tool
from agentcore.engine.runtime import Runtime
from agentcore.exceptions import UserError
from agentcore.models import Message, Run, ToolCall
from agentcore.providers import CallRequested, FileProduced, StepFinished, TextDelta
from agentcore.services import execution
from agentcore.testing.faults.plans import armed
from tests.integration.room import Died, drive_to_the_end, lapse, make, only_event
from tests.integration.says import Says

pytestmark = pytest.mark.django_db

DONE = [TextDelta("Done."), StepFinished("stop")]
DRAWS = [TextDelta("Here."), FileProduced("image/png", b"\x89PNG", filename="map.png", provider_details={"id": "ig_1"})]
ATTACHED = [TextPart("Read this"), FilePart("f1", "a.txt", "text/plain"), FilePart("f1", "a.txt", "text/plain")]


class Store:
    """What an application has of files; keeps what it was asked."""

    def __init__(self, **files: Any) -> None:
        self.files = files
        self.asked: list[tuple[Any, RunContext]] = []

    def load(self, part: FilePart, about: RunContext) -> Any:
        self.asked.append((part, about))
        return self.files.get(part.file_id)

    def save(self, new: NewFile, about: RunContext) -> Any:
        self.asked.append((new, about))
        return f"saved-{len(self.asked)}"


@pytest.mark.parametrize("given", [b"bytes", "https://files.example/a.txt"])
def test_a_model_is_given_the_files_that_the_application_loads(given: bytes | str) -> None:
    store = Store(f1=given)
    room = make(Says(DONE), files=Files(load=store.load))
    room.play(ATTACHED)
    assert room.model.requests[0].files == {"f1": given}
    ((part, about),) = store.asked  # once, however often it is named
    assert (part, about.prompt) == (FilePart("f1", "a.txt", "text/plain"), "Read this")


@pytest.mark.parametrize("files", [None, Files(), Files(load=lambda part, about: None)])
def test_a_file_that_is_not_loaded_is_known_by_its_name(files: Files | None) -> None:
    room = make(Says(DONE), files=files)
    room.play(ATTACHED)
    (request,) = room.model.requests
    assert request.files == {} and request.messages[0].parts[1] == FilePart("f1", "a.txt", "text/plain")


@pytest.mark.parametrize("given", [b"bytes", "https://copy.example/a.txt", None])
def test_a_loader_says_whether_an_address_may_be_read(given: Any) -> None:
    address = "https://files.example/a.txt"
    room = make(Says(DONE), files=Files(load=lambda part, about: given if part.url == address else b"other"))
    room.play([TextPart("Read"), FilePart(url=address)])
    assert room.model.requests[0].files == ({} if given is None else {address: given})


def test_more_than_the_limit_ends_the_run_before_the_model_is_asked(settings: LazySettings) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "FILES_LIMIT": 10}
    room = make(Says(), files=Files(load=Store(f1=b"x" * 11).load))
    run = room.play(ATTACHED)
    assert (run.status, run.error_code) == ("failed", "files_too_large") and "FILES_LIMIT" in run.error_detail


def test_a_thread_whose_older_files_take_more_than_the_limit_goes_on_with_the_newest(settings: LazySettings) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "FILES_LIMIT": 10}
    store = Store(f1=b"1", f2=b"2" * 7, f3=b"3" * 4)
    room = make(Says(DONE, DONE, DONE, DONE), files=Files(load=store.load))
    for number in (1, 2, 3):
        assert room.play([FilePart(f"f{number}")]).status == "succeeded"
    assert room.play("Never mind the files").status == "succeeded"
    assert [[*request.files] for request in room.model.requests] == [["f1"], ["f2", "f1"], ["f3"], ["f3"]]
    assert room.model.requests[3].messages[0].parts == (FilePart("f1"),)


def test_what_was_said_is_there_when_files_are_loaded() -> None:
    """A store may look at the database: all that the run has said is committed, and an act has its result."""
    seen: list[Any] = []

    @tool
    def transfer() -> str:
        """Transfer."""
        return "done"

    def load(part: FilePart, about: RunContext) -> bytes:
        said = Message.objects.filter(thread_id=about.thread_id).count()
        calls = ToolCall.objects.filter(run_id=about.run_id).values_list("status", flat=True)
        seen.append((Run.objects.get(pk=about.run_id).status, said, [*calls]))
        return b"x"

    asks = [CallRequested("c", "transfer", {}), StepFinished("tool_calls")]
    room = make(Says(asks, DONE), [transfer], files=Files(load=load))
    assert room.play(ATTACHED).status == "succeeded"
    assert seen == [("running", 1, []), ("running", 3, ["succeeded"])]


def test_a_model_that_makes_more_than_the_limit_is_stopped(settings: LazySettings) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "FILES_LIMIT": 10}
    run = make(Says([*DRAWS, *DRAWS, *DRAWS, StepFinished("stop")]), files=Files(save=Store().save)).play()
    assert (run.status, run.error_code) == ("failed", "answer_too_long") and "FILES_LIMIT" in run.error_detail


def test_a_file_that_the_model_makes_is_saved_shown_and_given_back() -> None:
    store = Store()
    room = make(Says([*DRAWS, StepFinished("stop")], DONE), files=Files(save=store.save))
    run = room.play()
    room.play()
    ((new, about),) = store.asked
    assert (new.data, new.media_type, new.filename, about.run_id) == (b"\x89PNG", "image/png", "map.png", run.pk)
    kept = FilePart("saved-1", "map.png", "image/png", provider_details={"id": "ig_1"})
    assert Message.objects.get(run=run).parts_with_details == (TextPart("Here."), kept)
    assert only_event(run, "file")["file_id"] == "saved-1"
    assert room.model.requests[1].messages[1].parts[1] == kept


def test_a_file_that_is_saved_again_after_a_crash_comes_under_the_same_key() -> None:
    store, said = Store(), [*DRAWS, StepFinished("stop")]
    room = make(Says(said, said), files=Files(save=store.save))
    run = room.send()
    with armed(before_finish=Died.at_once):
        execution.drive(run.pk, Runtime("doomed", inline=True))
    lapse(run)
    assert drive_to_the_end(run).status == "succeeded"
    first, second = (new.key for new, _ in store.asked)
    assert first == second


def test_a_file_of_another_answer_after_a_crash_comes_under_another_key() -> None:
    kept: dict[str, bytes] = {}

    def save(new: NewFile, about: RunContext) -> str:
        kept.setdefault(new.key, new.data)
        return new.key

    said = [
        [TextDelta(f"A {it}."), FileProduced("image/png", it.encode()), StepFinished("stop")] for it in ("cat", "dog")
    ]
    run = make(Says(*said), files=Files(save=save)).send()
    with armed(before_finish=Died.at_once):
        execution.drive(run.pk, Runtime("doomed", inline=True))
    lapse(run)
    drive_to_the_end(run)
    text, file = Message.objects.get(run=run).parts
    assert isinstance(file, FilePart)
    assert (text, kept[file.file_id]) == (TextPart("A dog."), b"dog")


@pytest.mark.parametrize(
    "file", [FileProduced("image/png", b"x"), FileProduced("image/png", url="https://a.example/x")]
)
def test_an_answer_that_is_a_file_is_an_answer(file: FileProduced) -> None:
    room = make(Says([file, StepFinished("stop")]), files=Files(save=Store().save))
    assert room.play().status == "succeeded"


@pytest.mark.parametrize("data", [bytearray(b"abcd"), memoryview(b"abcd").cast("I")])
def test_what_a_store_is_to_save_is_bytes(data: Any) -> None:
    store = Store()
    make(Says([*DRAWS[:1], FileProduced("image/png", data), StepFinished("stop")]), files=Files(save=store.save)).play()
    ((new, _),) = store.asked
    assert type(new.data) is bytes and new.data == b"abcd"


def test_an_answer_stands_though_nobody_keeps_its_file(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "agentcore.engine"):
        run = make(Says([*DRAWS, StepFinished("stop")])).play()
    assert run.status == "succeeded" and Message.objects.get(run=run).parts == (TextPart("Here."),)
    assert "has no Files(save=…)" in caplog.text


@pytest.mark.parametrize("wrong", [5, [b"x"]])
def test_what_a_loader_must_not_give_ends_the_run_and_tells_operators(wrong: Any) -> None:
    run = make(Says(), files=Files(load=Store(f1=wrong).load)).play(ATTACHED)
    assert (run.status, run.error_code) == ("failed", "user_error")
    assert "return bytes, an address, or None" in run.error_detail


def test_a_store_that_fails_ends_the_run_with_a_code() -> None:
    def fails(part: FilePart, about: RunContext) -> bytes:
        raise OSError("disk")

    run = make(Says(), files=Files(load=fails)).play(ATTACHED)
    assert (run.status, run.error_code) == ("failed", "files_failed") and "disk" not in run.error_message


def test_a_store_is_declared_as_functions_that_can_be_called_so() -> None:
    with pytest.raises(UserError, match="Files: load"):
        Files(load=lambda part: b"")  # type: ignore[misc, arg-type]
    with pytest.raises(UserError, match="Files: save"):
        Files(save="somewhere")
