"""Empties the test database after a test that commits, in milliseconds.

Django's own way is `flush`: it truncates every table, which creates its files anew, and then asks all
apps for their content types and permissions again. Together that took a third of the suite's time. Those
that migrations have made are the same for every test, so they stay; all other rows are deleted, in one transaction.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.db import connections, transaction
from django.test import TransactionTestCase

KEPT = {"django_content_type", "auth_permission", "django_migrations"}
# What tells a row of these from another: a test of migrations may make the same ones anew, with other ids.
KNOWN_BY = {
    Permission: ("content_type__app_label", "content_type__model", "codename"),
    ContentType: ("app_label", "model"),
}
_made: dict[str, set[tuple[Any, ...]]] = {}


def remember(alias: str) -> None:
    """Remember what a database has before any test: that is what its migrations have made."""
    _made[alias] = {*_rows(alias)}


def empty(alias: str) -> None:
    """Delete what tests have written; the order of tables does not matter, for foreign keys are checked at COMMIT."""
    connection = connections[alias]
    tables = sorted({*connection.introspection.django_table_names(only_existing=True)} - KEPT)
    with transaction.atomic(using=alias), connection.cursor() as cursor:
        for table in tables:
            cursor.execute(f"DELETE FROM {connection.ops.quote_name(table)}")
        rows = _rows(alias)
        for row in rows.keys() - _made[alias]:
            table = connection.ops.quote_name(row[0]._meta.db_table)
            cursor.execute(f"DELETE FROM {table} WHERE id = %s", [rows[row]])
            ContentType.objects.clear_cache()


def _rows(alias: str) -> dict[tuple[Any, ...], int]:
    """Return the ids of all content types and permissions, by what they are known by."""
    found: dict[tuple[Any, ...], int] = {}
    for model, names in KNOWN_BY.items():
        rows = model._default_manager.using(alias).order_by()
        found |= {(model, *key): pk for pk, *key in rows.values_list("pk", *names)}
    return found


def _fixture_teardown(case: TransactionTestCase) -> None:
    for alias in case._databases_names(include_mirrors=False):  # type: ignore[attr-defined]
        empty(alias)


def install() -> None:
    """Have the tests of this process emptied in this way."""
    TransactionTestCase._fixture_teardown = _fixture_teardown  # type: ignore[method-assign]
