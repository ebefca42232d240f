"""The other half of `shell.py`: what the project's own shell runs, `manage.py shell -c`, on what it is sent.

Each line of its input is one block of examples as JSON, each line of its output what
went wrong with them, empty if nothing did. The blocks share their names, as a reader's do.
"""

from __future__ import annotations

import doctest
import io
import json
import sys
import time

SOON = "# a moment later"
PATIENCE = 60.0
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

names = globals()
answers, sys.stdout = sys.stdout, io.StringIO()
parser = doctest.DocTestParser()


def attempt(example, block):
    """Run one example and return how it differs from the page; empty if it does not."""
    runner = doctest.DocTestRunner(verbose=False, optionflags=FLAGS)
    said = io.StringIO()
    test = doctest.DocTest([example], {}, block["where"], None, 0, None)
    test.globs = names  # themselves: what it is given is copied
    runner.run(test, out=said.write, clear_globs=False)
    return said.getvalue() if runner.failures else ""


def play(example, block):
    """Run an example; one that says it holds a moment later is looked at until it does."""
    deadline = time.monotonic() + PATIENCE
    while True:
        trouble = attempt(example, block)
        if not trouble or SOON not in example.source or time.monotonic() > deadline:
            return trouble
        time.sleep(0.1)


for line in sys.stdin:
    block = json.loads(line)
    examples = parser.get_examples(block["text"])
    trouble = "" if examples else "There is no example in it."
    for example in examples:
        trouble = trouble or play(example, block)
    answers.write(json.dumps(trouble) + "\n")
    answers.flush()
