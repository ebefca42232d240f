"""The suite's PostgreSQL behind a transaction pooler, as the documentation has it; for processes that a test starts."""

from __future__ import annotations

import os

from tests.docs.pages import blocks
from tests.settings.postgres import *  # noqa: F403
from tests.settings.postgres import DATABASES

ADDRESS = {name: DATABASES["default"][name] for name in ("HOST", "PORT")}
for block in blocks("docs/howto/deploy.md"):
    if "Behind PgBouncer" in block.headings and block.language == "python":
        exec(block.text)  # noqa: S102 - the page's own
DATABASES["default"] |= ADDRESS

# A test that shows why the page's is None has another.
if threshold := os.environ.get("AGENTCORE_TEST_PREPARE_THRESHOLD"):
    DATABASES["default"]["OPTIONS"]["prepare_threshold"] = int(threshold)
