"""Full-text search with what each database brings along, behind one `Retriever`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from django.db import connections

MAX_WORDS = 32
# A question is mostly these; what is left says what it is about.
STOP_WORDS = frozenset(
    """a an and any are as at be been but by can could did do does for from had has have hello hi how i if in is it its
    me my no not of on or our please so that the their them there they this to was we were what when where which who
    why will with would you your""".split()
)


@dataclass(frozen=True)
class Passage:
    """A found article, best first."""

    article_id: int
    title: str
    text: str


class Retriever(Protocol):
    """Finds what the knowledge base says about a question."""

    def search(self, query: str, user: Any, limit: int = 3) -> list[Passage]:
        """Return up to `limit` passages that `user` may read."""
        ...


def get_retriever(using: str = "default") -> Retriever:
    """Return the retriever for a database; raises `NotImplementedError` where it has no full-text search here."""
    vendor = connections[using].vendor
    if vendor == "sqlite":
        return SqlRetriever(using, SQLITE, " OR ")
    if vendor == "postgresql":
        return SqlRetriever(using, POSTGRESQL, " or ")
    raise NotImplementedError(f"The demo searches SQLite and PostgreSQL, not {vendor}.")


def words_of(query: str) -> list[str]:
    """Return the words worth searching for: letters and digits only, so nothing in them is an operator."""
    found = re.findall(r"\w+", query.lower().replace("_", " "))
    return [word for word in dict.fromkeys(found) if word not in STOP_WORDS][:MAX_WORDS]


# Who may read an article is part of each query: what is filtered afterwards has already pushed out something better.
SQLITE = """
    SELECT article.id, article.title, article.body
    FROM knowledge_article_fts AS found JOIN knowledge_article AS article ON article.id = found.rowid
    WHERE knowledge_article_fts MATCH %s AND (%s OR NOT article.internal)
    ORDER BY bm25(knowledge_article_fts, 4.0, 1.0), article.id LIMIT %s
"""
POSTGRESQL = """
    SELECT article.id, article.title, article.body
    FROM knowledge_article AS article, websearch_to_tsquery('english', %s) AS query
    WHERE knowledge_article_vector(article.title, article.body) @@ query AND (%s OR NOT article.internal)
    ORDER BY ts_rank(knowledge_article_vector(article.title, article.body), query) DESC, article.id LIMIT %s
"""


@dataclass(frozen=True)
class SqlRetriever:
    """Any of the words, each quoted, the title counting more."""

    using: str
    statement: str
    either: str

    def search(self, query: str, user: Any, limit: int = 3) -> list[Passage]:
        words = words_of(query)
        if not words:
            return []
        match = self.either.join(f'"{word}"' for word in words)
        parameters: Sequence[Any] = (match, bool(user is not None and user.is_staff), limit)
        with connections[self.using].cursor() as cursor:
            cursor.execute(self.statement, parameters)
            return [Passage(*row) for row in cursor.fetchall()]
