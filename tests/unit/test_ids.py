"""Identifiers sort as they were made, and no two processes make the same one."""

from __future__ import annotations

import os
from uuid import RFC_4122, UUID

import pytest

from agentcore.values.ids import uuid7

pytestmark = pytest.mark.once


def test_an_identifier_is_a_uuid_of_version_seven() -> None:
    made = uuid7()
    assert type(made) is UUID and made.version == 7 and made.variant == RFC_4122


def test_identifiers_of_one_process_sort_as_they_were_made() -> None:
    made = [uuid7() for _ in range(10_000)]
    assert made == sorted(set(made))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forked_children_make_identifiers_of_their_own() -> None:
    uuid7()
    reading, writing = os.pipe()
    children = []
    for _ in range(20):
        child = os.fork()
        if child == 0:
            try:
                os.write(writing, uuid7().hex.encode())  # so few bytes are written whole
            finally:
                os._exit(0)
        children.append(child)
    os.close(writing)
    with os.fdopen(reading, "rb") as made:
        said = made.read().decode()
    for child in children:
        os.waitpid(child, 0)
    ids = {said[start : start + 32][-19:] for start in range(0, len(said), 32)}  # but for their time
    assert len(said) == 20 * 32 and len(ids) == 20
