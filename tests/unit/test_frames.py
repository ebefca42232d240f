"""The websocket's frames: only what the protocol knows is understood, and nothing a client sends does harm."""

from __future__ import annotations

import json
from uuid import UUID

import pytest

from agentcore.realtime import frames
from agentcore.realtime.frames import Ack, Attach, BadFrame, FrameTooLarge, Name

pytestmark = pytest.mark.once

ID = "0195a1f0-0000-7000-8000-000000000001"
RUN = f"run:{ID}"


def attach(**cursors: object) -> str:
    return json.dumps({"type": "attach", "cursors": cursors})


def test_an_attach_frame_gives_its_cursors() -> None:
    text = attach(**{RUN: 12, f"thread:{ID.upper()}": -1, f"run:{ID[:-1]}2": 2**63 - 1})
    assert frames.parse(text) == Attach({
        Name("run", UUID(ID)): 12,
        Name("thread", UUID(ID)): -1,
        Name("run", UUID(f"{ID[:-1]}2")): 2**63 - 1,
    })  # fmt: skip


def test_cursors_may_be_missing() -> None:
    assert frames.parse('{"type":"attach"}') == Attach({})


@pytest.mark.covers("fc:E4")
def test_an_ack_names_its_mark() -> None:
    assert json.loads(frames.mark(65536)) == {"v": 1, "type": "mark", "bytes": 65536}
    assert frames.parse('{"type":"ack","bytes":65536}') == Ack(65536)


BAD = {
    "nothing": "",
    "no JSON": "attach",
    "half of it": '{"type":"attach"',
    "a list": "[]",
    "a number": "3",
    "null": "null",
    "no type": '{"cursors":{}}',
    "another type": '{"type":"stream.hint","cursors":{}}',
    "a handler's name": '{"type":"websocket.disconnect","code":1}',
    "one more key": '{"type":"attach","cursors":{},"user":1}',
    "cursors as a list": '{"type":"attach","cursors":[]}',
    "no cursors at all": '{"type":"attach","cursors":null}',
    "a text for a position": attach(**{RUN: "3"}),
    "a fraction": attach(**{RUN: 1.5}),
    "a truth": attach(**{RUN: True}),
    "before the beginning": attach(**{RUN: -2}),
    "beyond what is stored": attach(**{RUN: 2**63}),
    "astronomical": attach(**{RUN: 10**30}),
    "not a number": attach(**{RUN: float("nan")}),
    "a stream of another kind": attach(**{f"user:{ID}": 1}),
    "no id": attach(**{"run:": 1}),
    "an id that is none": attach(**{"run:1": 1}),
    "an id with a tail": attach(**{f"{RUN}\n": 1}),
    "an id in braces": attach(**{f"run:{{{ID}}}": 1}),
    "too many cursors": attach(**{f"run:{UUID(int=number)}": 1 for number in range(frames.MAX_CURSORS + 1)}),
    "a thousand levels": '{"type":"attach","cursors":' + "[" * 1000 + "]" * 1000 + "}",
    "thirty thousand levels": "[" * 30_000 + "]" * 30_000,
    "half a character": '{"type":"attach","cursors":{"\ud800":1}}',
    "a name twice": f'{{"type":"attach","cursors":{{"{RUN}":1,"{RUN}":2}}}}',
    "a type twice": '{"type":"attach","type":"attach"}',
    "a number beyond a float": f'{{"type":"attach","cursors":{{"{RUN}":1e400}}}}',
    "more digits than are read": f'{{"type":"attach","cursors":{{"{RUN}":{"9" * 5000}}}}}',
    "an ack of nothing": '{"type":"ack"}',
    "an ack of less than nothing": '{"type":"ack","bytes":-1}',
    "an ack in text": '{"type":"ack","bytes":"1"}',
    "an ack with cursors": '{"type":"ack","bytes":1,"cursors":{}}',
    "a zero byte": '{"type":"attach"}\x00',
}


@pytest.mark.covers("dj:WS-9", "fault:S2", "fc:E8")
@pytest.mark.parametrize("text", BAD.values(), ids=BAD.keys())
def test_anything_else_is_a_bad_frame(text: str) -> None:
    with pytest.raises(BadFrame) as refusal:
        frames.parse(text)
    assert not isinstance(refusal.value, FrameTooLarge)
    assert len(str(refusal.value)) < 300


def test_binary_is_a_bad_frame() -> None:
    with pytest.raises(BadFrame, match="text"):
        frames.parse(None)


@pytest.mark.covers("dj:WS-9")
@pytest.mark.parametrize("text", [" " * (frames.MAX_FRAME_BYTES + 1), "é" * (frames.MAX_FRAME_BYTES // 2 + 1)])
def test_a_large_frame_is_not_looked_into(text: str) -> None:
    with pytest.raises(FrameTooLarge):
        frames.parse(text)


def test_an_event_frame_holds_the_stored_bytes_as_they_are() -> None:
    data = '{"v":1, "seq":3,"text":"\\u00e9 é \\"","n":1.50}'.encode()
    [frame] = frames.event(Name("run", UUID(ID)), 3, data)
    assert data.decode() in frame
    assert json.loads(frame) == {"v": 1, "stream": RUN, "seq": 3, "event": json.loads(data)}


@pytest.mark.covers("fc:E2")
@pytest.mark.parametrize("text", ["x", "é", "😀", '"', "\\u0001", "\\"])
@pytest.mark.parametrize("count", [20_000, 150_000, 2_000_000])
def test_a_large_event_goes_in_pieces_none_of_which_is_large(text: str, count: int) -> None:
    data = json.dumps({"text": text * count}, ensure_ascii=False).encode()
    sent = list(frames.event(Name("run", UUID(ID)), 2**63 - 1, data))
    assert max(len(frame.encode()) for frame in sent) <= frames.MAX_SENT_BYTES
    if len(sent) == 1:
        assert json.loads(sent[0])["event"] == json.loads(data)
        return
    pieces = [json.loads(frame) for frame in sent]
    assert [(piece["part"], piece["parts"]) for piece in pieces] == [(at, len(sent)) for at in range(len(sent))]
    assert "".join(piece["piece"] for piece in pieces).encode() == data


def test_the_servers_own_frames() -> None:
    name = Name("run", UUID(ID))
    assert json.loads(frames.attached([name])) == {"v": 1, "type": "attached", "streams": [RUN]}
    assert json.loads(frames.error("bad_frame", "No.")) == {
        "v": 1, "type": "error", "code": "bad_frame", "message": "No.",
    }  # fmt: skip
    assert json.loads(frames.resync(name)) == {"v": 1, "type": "resync", "stream": RUN, "after": -1}
    assert json.loads(frames.PING) == {"v": 1, "type": "ping"}
