"""What the fork server loads when it starts (see `forked`): the project, prepared, and nothing that runs.

A signal to a whole process group reaches the server too. The server goes on, for the sake of the
processes it has forked; each one that it forks after the signal drains at once.
"""

from __future__ import annotations

import django

django.setup()

from . import forked  # noqa: E402, F401 - loaded here, so that no fork has to
from .prefork import prepare  # noqa: E402 - needs the apps
from .single import DRAIN  # noqa: E402

DRAIN.install()
prepare()
