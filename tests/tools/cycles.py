"""Finds circles in a graph of imports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set


def circles(graph: Mapping[str, Set[str]]) -> Iterator[list[str]]:
    """Yield one circle for each group of modules that reach each other, starting at its first by name."""
    reported: set[str] = set()
    for start in sorted(graph):
        if start in reported:
            continue
        circle = _shortest_way_back(graph, start)
        if circle:
            reported.update(circle)
            yield circle


def _shortest_way_back(graph: Mapping[str, Set[str]], start: str) -> list[str] | None:
    ways = [[start]]
    seen: set[str] = set()
    while ways:
        way = ways.pop(0)
        for following in sorted(graph.get(way[-1], ())):
            if following == start:
                return way
            if following not in seen:
                seen.add(following)
                ways.append([*way, following])
    return None
