"""The demo's orders, dated from today so that the stories stay true."""

from __future__ import annotations

from datetime import timedelta

from django.contrib.auth import get_user_model
from django.utils import timezone

from .models import Order

# number, customer, item, cents, days since shipped, days since delivered
ORDERS = (
    ("A-1001", "ada", "Espresso machine", 24_900, 12, None),
    ("A-1002", "ada", "Set of four cups", 3_990, 9, 5),
    ("A-1003", "ada", "Coffee grinder", 8_950, 75, 70),
    ("A-1004", "ada", "Milk jug", 1_850, None, None),
    ("B-2001", "bob", "Desk lamp", 5_500, 6, 2),
)


def seed_orders() -> int:
    """Create the orders that are missing and return how many there are."""
    people = {
        user.get_username(): user for user in get_user_model().objects.filter(username__in={o[1] for o in ORDERS})
    }
    today = timezone.localdate()
    for number, customer, item, cents, shipped, delivered in ORDERS:
        Order.objects.get_or_create(
            number=number,
            defaults={
                "customer": people[customer],
                "item": item,
                "total_cents": cents,
                "shipped_on": None if shipped is None else today - timedelta(days=shipped),
                "delivered_on": None if delivered is None else today - timedelta(days=delivered),
            },
        )
    return len(ORDERS)
