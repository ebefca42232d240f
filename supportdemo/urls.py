"""The demo's addresses."""

from __future__ import annotations

from django.conf import settings
from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from .accounts.forms import StaffLoginForm
from .cases import api

admin.site.login_form = StaffLoginForm

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="cases:list"), name="home"),
    path("accounts/", include("supportdemo.accounts.urls")),
    path("cases/", include("supportdemo.cases.urls")),
    path("files/", include("supportdemo.files.urls")),
    # These two would start runs past the case's quota.
    path("agent/threads/<thread_id>/runs", api.thread_runs),
    path("agent/runs/<run_id>/retry", api.retry_run),
    path("agent/", include("agentcore.urls")),
    path("admin/", admin.site.urls),
    # The admin's pages name no icon, and a browser then asks for this one.
    path("favicon.ico", RedirectView.as_view(url=f"{settings.STATIC_URL}demo/icon.svg")),
]
