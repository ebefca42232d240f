"""Fill an empty database with the demo's people, articles and orders."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from supportdemo.accounts.people import PEOPLE, seed_people
from supportdemo.cases.seed import seed_orders
from supportdemo.knowledge.seed import seed_articles


class Command(BaseCommand):
    """Seed the demo; running it again changes nothing."""

    help = "Create the demo's logins, knowledge articles and orders; safe to repeat."

    def handle(self, *args: Any, **options: Any) -> None:
        seed_people()
        articles = seed_articles()
        orders = seed_orders()
        names = ", ".join(person.name for person in PEOPLE)
        self.stdout.write(f"seeded: {names} (password = name); {articles} articles, {orders} orders")
