"""The demo's articles."""

from __future__ import annotations

from .models import Article

ARTICLES = (
    (
        "refund-policy",
        "Refund policy",
        "An order can be refunded within 30 days of delivery, and at any time before it is delivered. "
        "A refund is never more than what was paid and has not been refunded yet. "
        "Every refund is approved by a member of our support team before any money moves.\n\n"
        "Approved refunds go back to the original means of payment and arrive within 3 to 5 working days.",
    ),
    (
        "shipping-delays",
        "Shipping delays",
        "Parcels usually arrive within 5 working days of shipping. "
        "A parcel counts as late 7 days after it was shipped. "
        "If a parcel is late, the customer may wait for it or ask for a full refund.\n\n"
        "Tracking can stand still for up to 48 hours while a parcel changes carriers.",
    ),
    (
        "damaged-goods",
        "Damaged or broken goods",
        "Goods that arrive damaged, broken or defective are replaced or refunded in full. "
        "Please describe the damage; a photograph helps but is not required. "
        "A damaged item need not be sent back when it cost less than 100 EUR.",
    ),
    (
        "invoices",
        "Invoices and payment",
        "The invoice is sent by e-mail on the day an order ships. "
        "A corrected invoice, for example with a company address or VAT number, can be issued within 14 days. "
        "Invoices are kept for ten years and can be sent again at any time.",
    ),
    (
        "cancel-an-order",
        "Cancelling or changing an order",
        "An order can be cancelled free of charge until it ships. "
        "Once it is on its way the address can no longer be changed; the parcel can be refused at the door instead.",
    ),
)


def seed_articles() -> int:
    """Write the articles as they stand here and return how many there are."""
    for slug, title, body in ARTICLES:
        Article.objects.update_or_create(slug=slug, defaults={"title": title, "body": body})
    return len(ARTICLES)
