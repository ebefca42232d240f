"""Where a provider's details come from, and may go back to: the provider, its address and the account."""

from __future__ import annotations

from django.utils.crypto import salted_hmac


def origin(provider: str, address: str = "", account: str = "") -> str:
    """Return the name of an origin; of the account, which may be a key, it tells nothing.

    It changes with the project's `SECRET_KEY`: details of before are then not sent back any more.
    """
    digest = salted_hmac("agentcore.providers.origin", f"{provider}\n{address}\n{account}", algorithm="sha256")
    return f"{provider}:{digest.hexdigest()[:32]}"
