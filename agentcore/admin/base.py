"""What all pages of agentcore's admin share: nothing is edited, and nobody sees more than the policy shows them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import unquote
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.db import DataError
from django.db.models import Model, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from ..declaration import registry
from . import show

Perform = Callable[[HttpRequest, Any], HttpResponse]
OFFERED_BY = 50
"""How many rows are looked at to tell whether somebody is offered an action on many."""


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """A list and a page per object, scoped by the access policy; every change goes through a service."""

    visible: ClassVar[staticmethod[[Any, QuerySet[Any]], QuerySet[Any]]]
    """The function that returns what a user may see of some rows."""

    list_select_related: ClassVar[Any]
    """The relations that a row's line, and the policy's judgement of it, need."""

    search_ids: ClassVar[tuple[str, ...]]
    """The lookups a searched id is compared with; each has an index."""

    search_person: ClassVar[str]
    """The relation whose user name a searched word begins."""

    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # each count would scan the table
    list_per_page = 50
    list_max_show_all = 200
    search_help_text = gettext_lazy("An id, or the beginning of a user name.")

    class Media:
        css = {"all": ["agentcore/admin.css"]}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Let in all staff: which rows they see is the access policy's to say, here as everywhere."""
        return bool(request.user.is_active and request.user.is_staff)

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Whether the site's index names these pages: to whoever may use agentcore, or sees a row of it."""
        return super().has_module_permission(request) or self.get_queryset(request).exists()

    def may_any(self, request: HttpRequest, judge: Callable[[Any], bool]) -> bool:
        """Whether the policy allows something with one of the newest rows, so that offering it for many makes sense."""
        newest = self.get_queryset(request).select_related(*self.list_select_related).order_by("-pk")
        return any(judge(row) for row in newest[:OFFERED_BY])

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return self.visible(request.user, super().get_queryset(request))

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Return the list; a value that Django passes on and the database cannot take is one more bad lookup."""
        try:
            return super().get_changelist_instance(request)
        except (ValueError, OverflowError, DataError) as error:
            raise IncorrectLookupParameters(error) from error

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Find ids and beginnings of user names: what an index can find in a big table."""
        for word in search_term.split():
            queryset = queryset.filter(self._matches(word))
        return queryset, False

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show one object; this address takes no input."""
        obj = self.get_object(request, unquote(object_id))
        if obj is None:
            return self._missing(request, object_id)
        if not self.has_view_permission(request, obj) or request.method not in ("GET", "HEAD"):
            raise PermissionDenied
        return self.detail(request, obj)

    def detail(self, request: HttpRequest, obj: Any) -> HttpResponse:
        """Return the page of one object."""
        raise NotImplementedError

    def page(self, request: HttpRequest, template: str, title: str, obj: Any = None, **context: Any) -> HttpResponse:
        """Return one of agentcore's admin pages inside the site's own frame."""
        # For {% url "admin:…" %} in templates: it must lead to this site, whatever its name.
        request.current_app = self.admin_site.name
        return TemplateResponse(
            request,
            f"admin/agentcore/{template}",
            {
                **self.admin_site.each_context(request),
                "opts": self.opts,
                "original": obj,
                "title": title,
                "media": self.media,
                **context,
            },
        )

    def command(self, perform: Perform) -> Callable[..., HttpResponse]:
        """Return the view of a button on an object's page: POST only, and only for who sees the object."""

        @require_POST
        def view(request: HttpRequest, object_id: UUID) -> HttpResponse:
            obj = self.get_object(request, str(object_id))
            if obj is None or not self.has_view_permission(request, obj):
                raise Http404
            return perform(request, obj)

        return self.admin_site.admin_view(view)

    def url(self, view: str, *args: Any) -> str:
        """Return the address of one of this model's pages on this site."""
        return show.address(self.admin_site, self.model, view, *args)

    def _matches(self, word: str) -> Q:
        try:
            wanted = UUID(word)
        except ValueError:
            people = get_user_model()
            found = people._default_manager.filter(**{f"{people.USERNAME_FIELD}__startswith": word})
            return Q(**{f"{self.search_person}__in": found})
        return Q.create([(lookup, wanted) for lookup in self.search_ids], connector=Q.OR)

    def _missing(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Answer for what is not there or not theirs as Django's admin does: one sentence, and back to the start."""
        text = _("%(name)s with ID “%(key)s” doesn’t exist. Perhaps it was deleted?") % {
            "name": self.opts.verbose_name,
            "key": unquote(object_id),
        }
        self.message_user(request, text, messages.WARNING)
        return HttpResponseRedirect(reverse("admin:index", current_app=self.admin_site.name))


class AgentFilter(admin.SimpleListFilter):
    """Filter by agent: the declared ones, and whatever the address names."""

    title = gettext_lazy("agent")
    parameter_name = "agent"
    field = "agent"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        # From the registry: the distinct names of a big table would cost a scan of it on every page.
        return [(name, name) for name in registry.names()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(**{self.field: self.value()}) if self.value() else queryset
