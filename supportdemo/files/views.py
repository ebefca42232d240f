"""Upload to a case, and the authorised download."""

from __future__ import annotations

from io import BytesIO
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import FileResponse, HttpRequest, HttpResponseBase, JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_safe

from supportdemo.accounts.limits import RateLimit
from supportdemo.cases.access import case_to_write
from supportdemo.problems import Problem, json_view

from .models import Attachment
from .store import read, store

UPLOADS = RateLimit("upload", times=20, seconds=60)


@json_view
def upload(request: HttpRequest, case_id: UUID) -> HttpResponseBase:
    """Store the multipart field `file` in one of the user's own cases."""
    case = case_to_write(request.user, case_id)
    file = request.FILES.get("file")
    if file is None:
        raise Problem(400, "file_missing", "No file was sent. Choose one and send it as the field “file”.")
    wait = UPLOADS.take(str(request.user.pk))
    if wait is not None:
        raise Problem(429, "upload_limit", f"Too many files at once. Try again in {wait} seconds.", retry_after=wait)
    return JsonResponse(store(case, request.user, file).as_json(), status=201)


@login_required
@require_safe
def download(request: HttpRequest, attachment_id: UUID) -> HttpResponseBase:
    """Send a file to somebody who may open its case: as a download, never as a page of this site."""
    attachment = get_object_or_404(Attachment.objects.visible_to(request.user), pk=attachment_id)
    try:
        data = read(attachment)
    except Problem as problem:
        return problem.response()
    response = FileResponse(
        BytesIO(data),
        as_attachment=True,
        filename=attachment.original_name,
        content_type=attachment.media_type,
    )
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    response.headers["Cache-Control"] = "private, no-store"
    return response
