"""The demo's addresses."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="cases:list"), name="home"),
    path("accounts/", include("supportdemo.accounts.urls")),
    path("cases/", include("supportdemo.cases.urls")),
    path("files/", include("supportdemo.files.urls")),
    path("agent/", include("agentcore.urls")),
    path("admin/", admin.site.urls),
]
