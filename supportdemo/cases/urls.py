from __future__ import annotations

from django.urls import path

from supportdemo.files.views import upload

from . import views

app_name = "cases"
urlpatterns = [
    path("", views.case_list, name="list"),
    path("new/", views.new_case, name="new"),
    path("<uuid:case_id>/", views.case_detail, name="detail"),
    path("<uuid:case_id>/messages/", views.post_message, name="messages"),
    path("<uuid:case_id>/files/", upload, name="files"),
]
