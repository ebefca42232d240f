"""Whatever is sent to the JSON API is answered or is a problem with a code, a sentence and an id: never a 5xx."""

from __future__ import annotations

import json
import random
from itertools import product
from typing import Any
from uuid import uuid4

import pytest
from django.conf import LazySettings

from tests.integration.api_room import BASE, OPERATIONS, ok, problem, state

pytestmark = pytest.mark.django_db
JSON = "application/json"
SEND = {"agent": "test", "text": "Hello"}

FIELD = b"Content-Disposition: form-data"

# Content type, body, and what comes of it.
BODIES: dict[str, tuple[str, bytes, int, str]] = {
    "multipart": ("multipart/form-data; boundary=x", b'--x\r\n%s; name="text"\r\n\r\na\r\n--x--\r\n' % FIELD, 415, ""),
    "multipart without its boundary": ("multipart/form-data", b"--x", 415, ""),
    "multipart cut off": ("multipart/form-data; boundary=x", b"--x\r\n", 415, ""),
    "a form": ("application/x-www-form-urlencoded", b"text=a", 415, ""),
    "a form in hex": ("application/x-www-form-urlencoded; charset=hex", b"text=a", 415, ""),
    "no type": ("", b"{}", 415, "unsupported_media_type"),
    "plain text": ("text/plain", b"{}", 415, "unsupported_media_type"),
    "no type at all": ("rubbish", b"{}", 415, "unsupported_media_type"),
    "hex": (f"{JSON}; charset=hex", b"{}", 415, "unsupported_charset"),
    "base64": (f"{JSON}; charset=base64", b"{}", 415, "unsupported_charset"),
    "utf-16": (f"{JSON}; charset=utf-16", json.dumps(SEND).encode("utf-16"), 415, "unsupported_charset"),
    "a charset nobody knows": (f"{JSON}; charset=klingon", b"{}", 415, "unsupported_charset"),
    "nothing": (JSON, b"", 422, "invalid"),
    "spaces": (JSON, b"   ", 400, "not_json"),
    "half of it": (JSON, b'{"agent":', 400, "not_json"),
    "latin-1": (JSON, '{"agent":"test","text":"é"}'.encode("latin-1"), 400, "not_json"),
    "a byte order mark": (JSON, b"\xef\xbb\xbf{}", 400, "not_json"),
    "half a surrogate, raw": (JSON, b'{"agent":"test","text":"\xed\xa0\x80"}', 400, "not_json"),
    "a zero byte": (JSON, b"\x00", 400, "not_json"),
    "not a number": (JSON, b'{"agent":"test","text":NaN}', 400, "not_json"),
    "an infinity": (JSON, b'{"agent":"test","text":-Infinity}', 400, "not_json"),
    "1e400": (JSON, b'{"agent":"test","text":1e400}', 400, "not_json"),
    "more digits than are read": (JSON, b'{"agent":"test","text":' + b"9" * 10_000 + b"}", 400, "not_json"),
    "a name twice": (JSON, b'{"agent":"test","text":"a","text":"b"}', 400, "not_json"),
    "100,000 levels": (JSON, b"[" * 100_000, 400, "not_json"),
    "a list": (JSON, b"[]", 422, "invalid"),
    "null": (JSON, b"null", 422, "invalid"),
    "a huge number": (JSON, b'{"agent":"test","text":' + b"9" * 400 + b"}", 422, "invalid"),
    "a field too few": (JSON, b'{"agent":"test"}', 422, "invalid"),
    "a field too many": (JSON, b'{"agent":"test","text":"a","status":"x"}', 422, "invalid"),
    "a thousand fields too many": (JSON, json.dumps({f"f{n}": n for n in range(1000)}).encode(), 422, "invalid"),
    "a name of a megabyte": (JSON, json.dumps({"n" * 500_000: 1}).encode(), 422, "invalid"),
}  # fmt: skip


@pytest.fixture(params=[False, True], ids=["", "debug"])
def debug(request: pytest.FixtureRequest, settings: LazySettings) -> bool:
    settings.DEBUG = request.param
    return settings.DEBUG


def send(caller: Any, path: str, content_type: str, body: bytes, method: str = "POST", **more: Any) -> Any:
    headers = {"X-CSRFToken": caller.token}
    return caller.client.generic(method, BASE + path, body, content_type=content_type, headers=headers, **more)


@pytest.mark.covers("fc:E5", "fc:E8")
def test_a_body_that_makes_no_sense_is_a_problem(world, owner, debug):
    before = state()
    for case, (content_type, body, status, code) in BODIES.items():
        answer = send(owner, f"threads/{world.thread.pk}/runs", content_type, body)
        assert answer.status_code == status, (case, answer.content[:300])
        problem(answer, status, code or None)
        assert len(answer.content) < 5000, case
    assert state() == before


@pytest.mark.covers("fc:E8")
def test_edited_arguments_that_two_readers_may_read_in_two_ways_decide_nothing(world):
    operator, before = world.callers["operator"], state()
    decision = json.dumps(world.decision(edited_arguments="HERE"))
    for edit in (
        *('{"cents": 1e400}', '{"cents": NaN}', '{"cents": 1, "cents": 2}'),
        *('{"cents": 3, "note": "\\u0000"}', '{"cents": 3, "note": "\\ud800"}'),
        '{"cents": 3, "note": ' + "[" * 70 + "]" * 70 + "}",
    ):
        body = f'{{"decisions": [{decision}]}}'.replace('"HERE"', edit).encode()
        answer = send(operator, "approvals/decide", JSON, body)
        assert answer.status_code in (400, 422), (edit, answer.content)
        problem(answer, answer.status_code)
    twice = f'{{"decisions": [], "decisions": [{decision}]}}'.replace('"HERE"', "null").encode()
    problem(send(operator, "approvals/decide", JSON, twice), 400, "not_json")
    assert state() == before


@pytest.mark.covers("fc:E5")
def test_json_in_utf_8_is_taken_however_its_type_is_written(world, owner):
    for charset in ("utf-8", "UTF8", '"utf-8"', "us-ascii"):
        body = json.dumps({**SEND, "key": charset}).encode()
        ok(send(owner, f"threads/{world.thread.pk}/runs", f"Application/JSON; charset={charset}", body), 201)


@pytest.mark.covers("fc:E5")
def test_a_command_that_needs_no_body_needs_no_type(world, owner):
    ok(send(owner, f"runs/{world.failed.pk}/retry", "", b""), 201)


@pytest.mark.covers("fc:E5")
def test_a_charset_makes_a_problem_of_a_read_too(world, owner, debug):
    for charset in ("hex", "klingon", "utf-16"):
        content_type = f"{JSON}; charset={charset}"
        problem(send(owner, f"runs/{world.waiting.pk}", "", b"", "GET", CONTENT_TYPE=content_type), 415)


@pytest.mark.covers("fc:E5")
def test_a_length_that_is_no_number_is_a_problem(world, owner):
    for length in ("5,5", "x", "1e3", "-1"):
        answer = send(owner, f"threads/{world.thread.pk}/runs", JSON, b"{}", CONTENT_LENGTH=length)
        problem(answer, 400, "malformed")


@pytest.mark.covers("fc:E5")
def test_a_body_larger_than_the_site_takes_is_413(world, owner, settings, debug):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    answer = send(owner, f"threads/{world.thread.pk}/runs", JSON, json.dumps({**SEND, "text": "x" * 2000}).encode())
    problem(answer, 413, "body_too_large")


@pytest.mark.covers("fc:E5")
def test_an_address_that_is_not_there_is_a_problem(world, debug):
    nowhere = ("", "nope", "threads", "threads/", "runs//events", "runs/x/y/z", "%00", "%ff", "a" * 2000)
    for path, method, who in product(nowhere, ("GET", "POST", "DELETE"), ("owner", "anonymous")):
        problem(send(world.callers[who], path, JSON, b"{}", method), 404, "not_found")


@pytest.mark.covers("fc:E5", "fc:E6")
def test_an_id_that_is_none_is_not_found(world, owner):
    no_ids = ("1", "x", "%00", uuid4().hex[:-1], f"{{{uuid4()}", "０" * 36, "%ff", "null", "x" * 5000)
    for name, operation in product(no_ids, [item for item in OPERATIONS if item.is_of_one_object]):
        path = operation.at(thread_id=name, run_id=name)
        body = json.dumps(SEND).encode() if operation.path.endswith("runs") else b"{}"
        problem(send(owner, path, JSON, body, operation.method), 404, "not_found")


@pytest.mark.covers("fc:E5")
def test_a_method_an_address_does_not_take_is_405(world, owner, debug):
    for operation, method in product(OPERATIONS, ("PUT", "HEAD", "OPTIONS", "TRACE", "BREW")):
        answer = send(owner, operation.at(**world.ids()), "", b"", method)
        same = sorted(item.method for item in OPERATIONS if item.path == operation.path)
        assert answer.status_code == 405 and sorted(answer["Allow"].split(", ")) == same
        if method != "HEAD":
            problem(answer, 405, "method_not_allowed")


@pytest.mark.covers("fc:E11")
def test_a_query_parameter_that_nobody_knows_is_named(world, owner, debug):
    queries = ("status=pending", "limit=1&Limit=2", "%00=1", "user=1", "before=1&agent=x")
    before = state()
    for operation, query in product(OPERATIONS, queries):
        body = b"{}" if operation.method == "POST" else b""
        answer = send(owner, operation.at(**world.ids()), JSON, body, operation.method, QUERY_STRING=query)
        named = problem(answer, 422, "unknown_parameter")
        where = named["errors"][0]["where"]
        assert where.startswith("query.") and where[6:] in named["detail"]
    assert state() == before


@pytest.mark.covers("fc:E11")
def test_a_thousand_parameters_are_a_problem_that_stays_short(world, owner, debug):
    for count in (150, 5000):
        query = "&".join(f"p{number}=1" for number in range(count))
        answer = send(owner, "approvals", "", b"", "GET", QUERY_STRING=query)
        problem(answer, 422 if count == 150 else 400)
        assert len(answer.content) < 5000


@pytest.mark.covers("fc:E5", "fc:E11")
def test_the_document_takes_no_parameters_and_no_other_method(owner):
    problem(send(owner, "openapi.json", "", b"", "GET", QUERY_STRING="x=1"), 422, "unknown_parameter")
    problem(send(owner, "openapi.json", JSON, b"{}"), 405, "method_not_allowed")


VALUES: list[Any] = [
    None, True, 0, -1, 2**53, 2**63, 10**30, 1.5, 1e308, "", " ", "x", "\x00", "\ud800", "é" * 300, "[]", [], [[]], {},
    {"a": {}},
    "01900000-0000-7000-8000-000000000000", "x" * 300_000,
]  # fmt: skip
FIELDS = {
    "runs": ["agent", "text", "key"],
    "cancel": ["reason"],
    "retry": [],
    "decide": ["decisions", "approval", "verdict", "digest", "reason", "edited_arguments"],
}


QUERY_VALUES = ["", "-1", "9" * 30, "%00", "%ff", "x", "1.0"]


@pytest.mark.covers("fc:E5")
@pytest.mark.timeout(300)
def test_no_input_whatever_is_a_defect(world, debug):
    """Random bodies of known fields, random query values and random bytes; always the same ones."""
    dice = random.Random(f"malformed {debug}")
    for operation, _ in product(OPERATIONS, range(25)):
        caller = world.callers["operator" if "approvals" in operation.path else "owner"]
        path = operation.at(**world.ids())
        names = dice.sample(["limit", "before", "after"], dice.randint(0, 2))
        query = "&".join(f"{name}={dice.choice(QUERY_VALUES)}" for name in names)
        if operation.method == "GET":
            sent = b""
            answer = send(caller, path, dice.choice(["", JSON]), sent, "GET", QUERY_STRING=query)
        else:
            sent = _body(dice, world, operation)
            answer = send(caller, path, JSON, sent, QUERY_STRING=dice.choice(["", "", query]))
        assert answer.status_code < 500, (operation, query, sent[:500], answer.content[:500])
        if answer.status_code >= 400:
            problem(answer, answer.status_code)


def _body(dice: random.Random, world: Any, operation: Any) -> bytes:
    fields = FIELDS[operation.path.rsplit("/", 1)[-1]]
    body: Any = {name: dice.choice(VALUES) for name in dice.sample(fields, dice.randint(0, len(fields)))}
    if operation.path.endswith("decide") and dice.random() < 0.9:
        keys = ["reason", "edited_arguments", "digest", "verdict"]
        more = {name: dice.choice(VALUES) for name in dice.sample(keys, dice.randint(0, 2))}
        body = {"decisions": [world.decision(**more)] * dice.choice([1, 1, 1, 2])}
    elif operation.path.endswith("runs") and dice.random() < 0.7:
        body = {**SEND, **body}
    text = json.dumps(dice.choice([body, body, body, *VALUES])).encode()
    if dice.random() < 0.3:
        at = dice.randrange(len(text))
        text = text[:at] + bytes([dice.randrange(256)]) + text[at + dice.randint(0, 2) :]
    return text
