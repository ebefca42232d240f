"""The demo's search, on whichever database the suite runs."""

from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model
from django.db import connection

from agentcore import RunContext
from agentcore.values.ids import uuid7
from supportdemo.cases.context import knowledge
from supportdemo.knowledge.models import Article
from supportdemo.knowledge.retriever import get_retriever, words_of
from supportdemo.knowledge.seed import seed_articles

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def articles() -> None:
    seed_articles()


def titles(query: str, limit: int = 3, staff: bool = False) -> list[str]:
    user = get_user_model()(username="x", is_staff=staff)
    return [passage.title for passage in get_retriever().search(query, user, limit)]


@pytest.mark.parametrize(
    "question, title",
    [
        ("My parcel is late, where is it?", "Shipping delays"),
        ("The cup arrived broken!", "Damaged or broken goods"),
        ("Can I get my order refunded?", "Refund policy"),
        ("Please send me the invoice with my VAT number", "Invoices and payment"),
    ],
)
def test_question_finds_the_article_about_it_first(question: str, title: str) -> None:
    assert titles(question)[0] == title


@pytest.mark.parametrize("word", ["refund", "refunds", "REFUNDED", "Refunding"])
def test_forms_of_a_word_find_the_same_article(word: str) -> None:
    assert titles(word)[0] == "Refund policy"


@pytest.mark.parametrize(
    "query",
    [
        "he said \"refund\" and 'left'",
        '" OR 1=1 --',
        "NEAR(refund delay, 5) AND NOT title:refund*",
        "refund OR AND NOT",
        "body: {title} ^refund + - ~ ! & | <-> ( ) :* %s %",
        "😀🧾 refund 💸",
        "',",
        "\\",
        "\N{NO-BREAK SPACE}refund\ud7ff",
        "refund\x00",
        "refund " * 5_000,
        "Rückerstattung — возврат 退款",
    ],
)
def test_no_words_of_a_user_break_the_query(query: str) -> None:
    found = titles(query)
    assert ("Refund policy" in found) == ("refund" in query)


@pytest.mark.parametrize("query", ["", "   ", "😀", "?!", "the of and", "___"])
def test_nothing_to_search_for_finds_nothing(query: str) -> None:
    assert titles(query) == []


def test_words_are_few_unique_and_without_stop_words() -> None:
    assert words_of("The refund, the REFUND; of my_order!") == ["refund", "order"]
    assert len(words_of(" ".join(f"w{number}" for number in range(500)))) == 32


def test_limit_is_kept() -> None:
    assert len(titles("order refund delivery invoice parcel", limit=2)) == 2


def test_index_follows_save_bulk_update_and_delete() -> None:
    article = Article.objects.create(slug="gift", title="Gift cards", body="A voucher never expires.")
    assert titles("voucher") == ["Gift cards"]
    article.body = "A coupon never expires."
    article.save()
    assert titles("voucher") == [] and titles("coupon") == ["Gift cards"]
    Article.objects.filter(pk=article.pk).update(body="A bonus never expires.")
    assert titles("coupon") == [] and titles("bonus") == ["Gift cards"]
    article.delete()
    assert titles("bonus") == []


@pytest.mark.covers("threat:T22")
def test_internal_article_is_found_by_staff_only_and_takes_nobody_elses_place() -> None:
    for number in range(3):
        Article.objects.create(
            slug=f"secret-{number}", title="Refund refund refund", body="refund refund", internal=True
        )
    assert titles("refund", limit=1) == ["Refund policy"]
    assert titles("refund", limit=1, staff=True) == ["Refund refund refund"]


def test_loader_gives_the_best_articles_as_context() -> None:
    about = RunContext(uuid7(), uuid7(), "support", get_user_model()(), "My parcel is late", {})
    first = knowledge(about)[0]
    assert first.name == "knowledge: Shipping delays" and "7 days after" in first.text
    assert first.metadata["article"] == Article.objects.get(slug="shipping-delays").pk


def test_failing_search_costs_the_articles_not_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    about = RunContext(uuid7(), uuid7(), "support", None, "refund", {})
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("DROP TABLE knowledge_article_fts")
        else:
            cursor.execute("DROP FUNCTION knowledge_article_vector(text, text) CASCADE")
        assert knowledge(about) == []
    assert "knowledge search failed" in caplog.text
