"""The demo's pages load nothing inline and nothing from elsewhere, also under hashed names."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path

import pytest
from django.conf import LazySettings, settings
from django.contrib.staticfiles import finders
from django.contrib.staticfiles.storage import staticfiles_storage
from django.core.management import call_command
from django.test import Client

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.once


@pytest.mark.covers("dj:TPL-4")
def test_static_files_collect_under_hashed_names(settings: LazySettings, tmp_path: Path):
    settings.STATIC_ROOT = tmp_path
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
    }
    call_command("collectstatic", interactive=False, verbosity=0, stdout=StringIO())
    for name in ("agentcore/agent-client.js", "demo/case.js", "demo/case.css"):
        assert re.search(r"\.[0-9a-f]{12}\.(js|css)$", staticfiles_storage.url(name)), name
        # Modules import each other by their plain names, so these must be there too.
        assert (tmp_path / name).exists()


@pytest.mark.covers("dj:TPL-4")
@pytest.mark.parametrize("template", sorted((ROOT / "templates").rglob("*.html")), ids=lambda path: path.name)
def test_pages_have_no_inline_script_or_style(template: Path):
    source = template.read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)", source)
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:|https?://", source)


@pytest.mark.parametrize("script", sorted((ROOT / "static").rglob("*.js")), ids=lambda path: path.name)
def test_scripts_never_turn_text_into_markup(script: Path):
    source = script.read_text()
    for forbidden in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "://",
    ):
        assert forbidden not in source, forbidden


def test_a_browser_that_asks_for_the_usual_icon_is_sent_to_the_demos(client: Client):
    answer = client.get("/favicon.ico")
    assert answer.status_code == 302
    assert finders.find(answer.headers["Location"].removeprefix(settings.STATIC_URL)) is not None
