"""JSON as agentcore stores it: clean, canonical, and shown as it is."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import unicodedata
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agentcore.values import jsontext

pytestmark = pytest.mark.once
SCRIPT = Path(__file__).resolve().parents[2] / "static" / "demo" / "text.js"
NODE = shutil.which("node")


def nested(depth: int) -> Any:
    value: Any = "bottom"
    for _ in range(depth):
        value = [value]
    return value


def depth_of(value: Any) -> int:
    depth = 0
    while isinstance(value, list):
        value, depth = value[0], depth + 1
    return depth


@pytest.mark.covers("fault:D14")
@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("a\x00b", "a\ufffdb"),
        ("\ud800", "\ufffd"),
        ("\ud800a", "\ufffda"),
        ("a\udc00", "a\ufffd"),
        ("\ud83d\ude00", "😀"),  # two halves of one character are that character
        ("\ufeffmark", "\ufeffmark"),
        ("plain — ünïcode 😀", "plain — ünïcode 😀"),
        ("", ""),
    ],
)
def test_text_loses_only_what_no_store_takes(raw: str, clean: str) -> None:
    assert jsontext.clean_text(raw) == clean
    clean.encode()


@pytest.mark.covers("fault:D14")
@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        (float("1e400"), "Infinity"),
        (-0.0, 0),
        (1.0, 1),
        (1.5, 1.5),
        (1e300, 1e300),
        (2**53 - 1, 2**53 - 1),
        (2**53, 2**53),
        (-(2**60), -(2**60)),
        (10**400, 10**400),
        (10**4250, "1" + "0" * 4250),
        (True, True),
        (None, None),
        ({"k\x00": ["\ud800"]}, {"k\ufffd": ["\ufffd"]}),
        ({1: "one", None: "none"}, {"1": "one", "None": "none"}),
        ((1, {2}), [1, [2]]),
        (Decimal("1.10"), "1.10"),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02 00:00:00+00:00"),
    ],
)
def test_values_become_what_every_store_and_reader_takes(raw: Any, clean: Any) -> None:
    found = jsontext.clean(raw)
    assert found == clean and type(found) is type(clean)
    assert json.loads(jsontext.encode(found)) == clean


@pytest.mark.parametrize(
    ("raw", "written"),
    [
        (math.nan, "NaN"),
        ([math.inf, {"low": -math.inf}], ["Infinity", {"low": "-Infinity"}]),
        ({"k\x00": ["\ud800", math.nan]}, {"k\ufffd": ["\ufffd", "NaN"]}),
        ({1: "one", None: "none"}, {"1": "one", "None": "none"}),
        ((1, {2}), [1, [2]]),
        (2**70, 2**70),
        ("\\u0000", "\\u0000"),
    ],
)
def test_what_is_encoded_without_having_been_cleaned_reads_as_if_it_had_been(raw: Any, written: Any) -> None:
    assert json.loads(jsontext.encode(raw)) == json.loads(jsontext.encode(jsontext.clean(raw))) == written


@pytest.mark.covers("fault:D14")
@pytest.mark.parametrize("raw", ["a\x00b", "\ud800", math.nan, math.inf, {1, 2}, {"deep": [{"\x00": object()}]}])
def test_what_is_encoded_can_be_stored_whatever_it_was(raw: Any) -> None:
    data = jsontext.encode(raw)
    assert b"\\u0000" not in data and json.loads(data.decode(), parse_constant=pytest.fail) is not None


@pytest.mark.covers("fault:D14")
@pytest.mark.parametrize("sign", [1, -1])
def test_a_number_of_thousands_of_digits_is_kept_as_text(sign: int) -> None:
    number = sign * 10**5000
    kept = jsontext.clean(number)
    assert isinstance(kept, str) and int(kept, 16) == number


@pytest.mark.covers("fault:D14")
def test_deep_nesting_is_cut_visibly() -> None:
    assert jsontext.clean(nested(jsontext.MAX_DEPTH)) == nested(jsontext.MAX_DEPTH)
    cut = json.loads(jsontext.canonical(nested(20_000)))
    assert depth_of(cut) == jsontext.MAX_DEPTH + 1
    assert jsontext.TRUNCATED in jsontext.canonical(nested(20_000))


@pytest.mark.covers("fault:D14")
def test_cleaning_what_is_clean_changes_nothing() -> None:
    value = {"a": [1, 1.5, "x", None, True, {"b": nested(70)}], "n": 10**5000, "nan": math.nan}
    once = jsontext.clean(value)
    assert jsontext.clean(once) == once


def test_the_canonical_text_does_not_depend_on_order_or_spelling() -> None:
    assert jsontext.canonical({"b": 1.0, "a": -0.0}) == jsontext.canonical({"a": 0, "b": 1}) == '{"a":0,"b":1}'
    assert jsontext.canonical("ü") == '"ü"'


def test_a_digest_keeps_its_texts_apart() -> None:
    assert jsontext.digest("ab", "c") != jsontext.digest("a", "bc")
    assert jsontext.digest("a") != jsontext.digest("a", "")
    assert jsontext.digest("a", "b") == jsontext.digest("a", "b")


def test_a_long_text_is_cut_visibly() -> None:
    assert jsontext.shorten("abc", 3) == "abc"
    assert jsontext.shorten("abcd", 3) == "abc" + jsontext.TRUNCATED


UNSEEN = "\u202e\u200b\u2066\x1b\u2028\ufeff\n\u00a0\u2003\u3000\u034f\u115f\u3164\u2800\ufe0f"


@pytest.mark.parametrize("hidden", UNSEEN)
def test_what_hides_or_reorders_a_line_is_shown_as_an_escape(hidden: str) -> None:
    shown = jsontext.visible(f"pay{hidden}me")
    assert hidden not in shown and f"{ord(hidden):04x}" in shown
    assert jsontext.visible("é 😀 ok") == "é 😀 ok"
    assert jsontext.visible("a\nb", keep="\n") == "a\nb"


def test_a_typed_escape_does_not_look_like_the_real_thing() -> None:
    assert jsontext.visible("a\u202eb") == r"a\u{202e}b"
    assert jsontext.visible(r"a\u{202e}b") == r"a\u{005c}u{202e}b"
    assert jsontext.visible("\\\u202e") == r"\\u{202e}"
    assert jsontext.visible(r"C:\users\new") == r"C:\users\new"


@pytest.mark.skipif(NODE is None, reason="Node is not installed")
def test_the_pages_script_shows_the_same_characters_as_escapes(tmp_path: Path) -> None:
    (tmp_path / "text.mjs").write_text(SCRIPT.read_text())
    (tmp_path / "list.mjs").write_text(
        'import { visible } from "./text.mjs";\n'
        "const all = Array.from({ length: 0x10000 }, (_, code) => String.fromCharCode(code));\n"
        "const shown = all.map((char) => (/\\p{Cn}/u.test(char) ? null : visible(char)));\n"
        r"console.log(JSON.stringify([shown, visible('\\u{202e}\\users')]));"
    )
    said = subprocess.run([str(NODE), tmp_path / "list.mjs"], capture_output=True, text=True, timeout=60, check=True)
    shown, typed = json.loads(said.stdout)
    assert typed == jsontext.visible(r"\u{202e}\users")
    known = [char for char in map(chr, range(0x10000)) if unicodedata.category(char) != "Cn"]
    # What one of the two Unicode versions does not know yet proves nothing.
    differ = {char: shown[ord(char)] for char in known if shown[ord(char)] not in (None, jsontext.visible(char))}
    assert differ == {}


@pytest.mark.parametrize(
    "text", ['{"a": 1, "a": 2}', '[{"b": {"a": 1, "a": 1}}]', "NaN", '{"a": -Infinity}', "1e400", "[" * 20_000, "", "{"]
)
def test_text_that_two_readers_may_read_in_two_ways_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        jsontext.parse(text)


def test_plain_text_is_parsed() -> None:
    assert jsontext.parse('{"a": [1, 2.5, null, true], "b": {"a": "x"}}') == {
        "a": [1, 2.5, None, True],
        "b": {"a": "x"},
    }
