from __future__ import annotations

from django.urls import path

from . import views

app_name = "files"
urlpatterns = [path("<uuid:attachment_id>/", views.download, name="download")]
