"""Articles, and the full-text index of each database."""

from __future__ import annotations

from typing import Any

from django.db import migrations, models

SQLITE_FORWARDS = [
    """
    CREATE VIRTUAL TABLE knowledge_article_fts USING fts5(
        title, body, content='knowledge_article', content_rowid='id', tokenize='porter unicode61'
    )
    """,
    # Triggers, not signals: a bulk update or a flush keeps the index true as well.
    """
    CREATE TRIGGER knowledge_article_fts_insert AFTER INSERT ON knowledge_article BEGIN
        INSERT INTO knowledge_article_fts (rowid, title, body) VALUES (new.id, new.title, new.body);
    END
    """,
    """
    CREATE TRIGGER knowledge_article_fts_delete AFTER DELETE ON knowledge_article BEGIN
        INSERT INTO knowledge_article_fts (knowledge_article_fts, rowid, title, body)
        VALUES ('delete', old.id, old.title, old.body);
    END
    """,
    """
    CREATE TRIGGER knowledge_article_fts_update AFTER UPDATE ON knowledge_article BEGIN
        INSERT INTO knowledge_article_fts (knowledge_article_fts, rowid, title, body)
        VALUES ('delete', old.id, old.title, old.body);
        INSERT INTO knowledge_article_fts (rowid, title, body) VALUES (new.id, new.title, new.body);
    END
    """,
]
SQLITE_BACKWARDS = [
    "DROP TRIGGER knowledge_article_fts_update",
    "DROP TRIGGER knowledge_article_fts_delete",
    "DROP TRIGGER knowledge_article_fts_insert",
    "DROP TABLE knowledge_article_fts",
]
POSTGRESQL_FORWARDS = [
    # A function keeps the expression the same in the index and in every query.
    """
    CREATE FUNCTION knowledge_article_vector(title text, body text) RETURNS tsvector LANGUAGE sql IMMUTABLE AS $$
        SELECT setweight(to_tsvector('english', title), 'A') || setweight(to_tsvector('english', body), 'D')
    $$
    """,
    """
    CREATE INDEX knowledge_article_fts ON knowledge_article
    USING gin (knowledge_article_vector(title::text, body))
    """,
]
POSTGRESQL_BACKWARDS = ["DROP INDEX knowledge_article_fts", "DROP FUNCTION knowledge_article_vector(text, text)"]


def forwards(apps: Any, schema_editor: Any) -> None:
    run(schema_editor, {"sqlite": SQLITE_FORWARDS, "postgresql": POSTGRESQL_FORWARDS})


def backwards(apps: Any, schema_editor: Any) -> None:
    run(schema_editor, {"sqlite": SQLITE_BACKWARDS, "postgresql": POSTGRESQL_BACKWARDS})


def run(schema_editor: Any, statements: dict[str, list[str]]) -> None:
    for statement in statements.get(schema_editor.connection.vendor, []):
        schema_editor.execute(statement)


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            name="Article",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("slug", models.SlugField(unique=True)),
                ("title", models.CharField(max_length=200)),
                ("body", models.TextField()),
                ("internal", models.BooleanField(default=False, help_text="Only found for staff.")),
                ("updated_at", models.DateTimeField(auto_now=True)),
            ],
            options={"ordering": ["title"]},
        ),
        migrations.RunPython(forwards, backwards),
    ]
