"""Read a PDF from standard input and write `{text, truncated, error, scan}`: a program of its own, under limits."""

from __future__ import annotations

import json
import resource
import sys

CPU_SECONDS = 10
MEMORY = 512 * 1024 * 1024


def limit_myself() -> None:
    """Give up endless CPU time and memory, and the right to write files."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def read(data: bytes, max_pages: int, max_characters: int) -> dict[str, object]:
    """Return the text of the document, page after page until there is enough."""
    import io
    import logging

    from pypdf import PdfReader

    logging.disable(logging.CRITICAL)  # it remarks on every fault of a file; the answer says what matters
    document = PdfReader(io.BytesIO(data))
    if document.is_encrypted:
        return problem("The PDF is protected by a password; its text was not read.")
    pages = len(document.pages)
    if pages > max_pages:
        return problem(f"The PDF has {pages} pages; text is read from up to {max_pages}.")
    texts: list[str] = []
    length = 0
    for page in document.pages:
        texts.append(page.extract_text())
        length += len(texts[-1])
        if length > max_characters:
            break
    text = "\n\n".join(texts).replace("\0", "").strip()
    if not text:
        return problem("The PDF holds no text; it may be a scan.", scan=True)
    return {"text": text[: max_characters + 1], "truncated": len(text) > max_characters, "error": "", "scan": False}


def problem(message: str, *, scan: bool = False) -> dict[str, object]:
    """Return an answer without text; of a scan there is something to see."""
    return {"text": "", "truncated": False, "error": message, "scan": scan}


if __name__ == "__main__":
    limit_myself()
    answer = read(sys.stdin.buffer.read(), int(sys.argv[1]), int(sys.argv[2]))
    sys.stdout.write(json.dumps(answer))
