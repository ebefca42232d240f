"""What a server's tools are called, what fits their schemas, where a server is, and what is said of none of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentcore.exceptions import ModelRetry, NotKept, UserError
from agentcore.mcp import HttpServer, Rule, StdioServer, mcp_tools
from agentcore.mcp.arguments import ServerArguments, UnusableSchema
from agentcore.mcp.naming import named

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    "name, prefix, made",
    [
        ("search", "", "search"),
        ("search", "crm", "crm_search"),
        ("getItem", "", "getitem"),
        ("files/read-all", "fs", "fs_files_read_all"),
        ("x" * 64, "", "x" * 64),
    ],
)
def test_a_name_stays_as_it_is_as_far_as_providers_take_it(name, prefix, made):
    assert named([name], prefix) == {name: made}


@pytest.mark.parametrize(
    "names", [["a-b", "a.b"], ["x" * 80, "x" * 81], ["日本", "中国"], ["a-b", "a_b", "A_B"], ["", "_"]]
)
@pytest.mark.parametrize("prefix", ["", "crm"])
def test_names_that_would_be_alike_are_told_apart_the_same_way_in_any_order(names, prefix):
    made = named(names, prefix)
    assert made == named(reversed(names), prefix)
    assert len(set(made.values())) == len(names)
    for name in made.values():
        assert 0 < len(name) <= 64 and name.isascii() and name.replace("_", "").isalnum() and name == name.lower()


def test_a_name_that_fits_is_not_changed_for_another_that_does_not():
    assert named(["a_b", "a-b"], "")["a_b"] == "a_b"


def arguments(**schema: Any) -> ServerArguments:
    return ServerArguments.of("Tool pay", {"type": "object", **schema}, "digest")


@pytest.mark.parametrize("sent", [{}, {"a": None, "b": [1.5, {"c": "é"}]}, {"a": 10**30}])
def test_what_a_model_sent_is_recorded_and_given_as_it_is(sent):
    kept = arguments()
    assert kept.record(sent) == sent == kept.given(json.loads(json.dumps(sent)))


def test_no_default_of_a_server_is_put_in():
    assert arguments(properties={"a": {"type": "integer", "default": 3}}).record({}) == {}


def test_faults_are_told_to_the_model_shortly():
    strict = arguments(properties={"a": {"enum": ["x" * 1000]}}, required=["b"], additionalProperties=False)
    with pytest.raises(ModelRetry, match="'b' is a required property") as raised:
        strict.record({"a": "y" * 5000, "c": 1})
    assert len(raised.value.message) < 2000


def test_what_was_recorded_and_does_not_fit_any_more_is_not_given():
    with pytest.raises(NotKept, match="Tool pay: what was recorded is not accepted any more"):
        arguments(required=["a"]).given({})


def test_what_no_store_keeps_is_refused():
    with pytest.raises(ModelRetry, match="zero byte"):
        arguments().record({"a": "\x00"})


def test_a_pattern_is_left_to_its_server():
    slow = arguments(
        properties={"a": {"pattern": "^(a+)+$"}}, patternProperties={"^(b+)+$": {}}, additionalProperties=False
    )
    sent = {"a": "a" * 5000 + "!", "b" * 5000 + "!": 1}
    assert slow.record(sent) == sent


@pytest.mark.parametrize(
    "schema", [{"$ref": "#"}, {"$ref": "https://example.com/x"}, {"properties": {"a": {"$ref": "#/no"}}}]
)
def test_a_schema_that_leads_nowhere_is_told_to_the_model(schema):
    with pytest.raises(ModelRetry, match="cannot be followed"):
        arguments(**schema).record({"a": 1})


def nested(depth: int) -> dict[str, Any]:
    return {"properties": {"a": nested(depth - 1)}} if depth else {}


@pytest.mark.parametrize(
    "schema, why",
    [
        ({"type": "string"}, "no object"),
        ({}, "no object"),
        ({"type": "object", "properties": 3}, "not valid"),
        ({"type": "object", "title": "x" * 200_000}, "bytes"),
        ({"type": "object", **nested(40)}, "too deeply"),
    ],
)
def test_a_schema_that_cannot_be_used_says_why(schema, why):
    with pytest.raises(UnusableSchema, match=why):
        ServerArguments.of("Tool pay", schema, "digest")


def test_what_may_be_a_secret_of_a_server_is_not_shown():
    servers = [
        StdioServer("crm", ["--key", "secret"], env={"TOKEN": "secret"}),
        HttpServer("https://crm.example.com/mcp?key=secret", headers={"Authorization": "secret"}),
        HttpServer("https://crm.example.com/mcp", headers=lambda: {"Authorization": "secret"}),
    ]
    for server in servers:
        assert "secret" not in f"{server} {server!r} {mcp_tools(server)} {mcp_tools(server)!r} {server.label}"


def test_servers_that_are_asked_alike_share_a_session():
    assert HttpServer("https://a/", {"k": "1"}).identity == HttpServer("https://a/", {"k": "1"}).identity
    assert HttpServer("https://a/", {"k": "1"}).identity != HttpServer("https://a/", {"k": "2"}).identity
    assert StdioServer("a", env={"k": "1"}).identity != StdioServer("a").identity


@pytest.mark.parametrize(
    "declare, said",
    [
        (lambda: HttpServer("crm.example.com"), "write one such as"),
        (lambda: HttpServer("https://me:secret@crm.example.com"), "send it with headers"),
        (lambda: HttpServer("https://a/", headers={"k": 1}), "names and texts"),
        (lambda: StdioServer(""), "command"),
        (lambda: StdioServer("a", "b c"), "write a list of texts"),
        (lambda: StdioServer("a", env={"k": None}), "names and texts"),
        (lambda: mcp_tools("https://a/"), "StdioServer"),
        (lambda: mcp_tools(StdioServer("a"), prefix="C R M"), "use a–z, 0–9 and _"),
        (lambda: mcp_tools(StdioServer("a"), prefix="x" * 33), "at most 32"),
        (lambda: mcp_tools(StdioServer("a"), effect="atomic"), "atomic"),
        (lambda: mcp_tools(StdioServer("a"), effect="safe"), "effect must be one of"),
        (lambda: mcp_tools(StdioServer("a"), timeout=0), "timeout"),
        (lambda: mcp_tools(StdioServer("a"), needs_approval=lambda: True), "arguments, ctx"),
        (lambda: mcp_tools(StdioServer("a"), rules={"search": {"effect": "pure"}}), "Rule"),
        (lambda: mcp_tools(StdioServer("a"), rules=lambda: Rule()), "tool"),
        (lambda: mcp_tools(StdioServer("a"), fresh_seconds=-1), "fresh_seconds"),
    ],
)
def test_a_mistake_is_told_where_it_is_made(declare, said):
    with pytest.raises(UserError, match=said) as raised:
        declare()
    assert "secret" not in raised.value.message
