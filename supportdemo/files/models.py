"""What a customer attached to a case."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import uuid4

from django.conf import settings
from django.db import models, transaction
from django.db.models.signals import post_delete
from django.dispatch import receiver
from django.urls import reverse

from agentcore import FilePart


def random_name(attachment: Attachment, filename: str) -> str:
    """Name a stored file after nothing: what the sender called it is data, never a path."""
    return f"attachments/{uuid4().hex}"


class AttachmentQuerySet(models.QuerySet["Attachment"]):
    """Who may see which attachments."""

    def visible_to(self, user: Any) -> AttachmentQuerySet:
        """Keep the attachments of the cases that `user` may open."""
        from supportdemo.cases.models import Case

        return self.filter(case__in=Case.objects.visible_to(user))


class Attachment(models.Model):
    """One stored file and the text found in it."""

    class Status(models.TextChoices):
        EXTRACTED = "extracted", "text read"
        PICTURE = "picture", "stored, a picture without text"
        METADATA_ONLY = "metadata_only", "stored, without text"
        FAILED = "failed", "stored, but could not be read"

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    # A customer who leaves takes the files along.
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="attachments")
    case = models.ForeignKey("cases.Case", on_delete=models.CASCADE, related_name="attachments")
    file = models.FileField(upload_to=random_name)
    original_name = models.CharField(max_length=120)
    media_type = models.CharField(max_length=100)
    size = models.PositiveBigIntegerField()
    sha256 = models.CharField(max_length=64)
    text = models.TextField(blank=True)
    truncated = models.BooleanField(default=False)
    status = models.CharField(max_length=16, choices=Status)
    error = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[Any] = AttachmentQuerySet.as_manager()

    class Meta:
        ordering = ["created_at", "id"]

    def __str__(self) -> str:
        return self.original_name

    def get_absolute_url(self) -> str:
        """Return the address of the authorised download."""
        return reverse("files:download", args=[self.pk])

    def as_part(self) -> FilePart:
        """Return the reference that a message keeps."""
        return FilePart(file_id=str(self.pk), filename=self.original_name, media_type=self.media_type)

    def as_json(self) -> dict[str, Any]:
        """Return what the page shows on the file's card."""
        return {
            "id": str(self.pk),
            "name": self.original_name,
            "size": self.size,
            "media_type": self.media_type,
            "status": self.status,
            "truncated": self.truncated,
            "error": self.error,
            "url": self.get_absolute_url(),
        }


@receiver(post_delete, sender=Attachment, dispatch_uid="files.delete_stored_file")
def delete_stored_file(instance: Attachment, **kwargs: Any) -> None:
    """Delete the stored bytes once the row is gone for good."""
    storage, name = instance.file.storage, instance.file.name
    if name:
        transaction.on_commit(lambda: storage.delete(name), robust=True)
