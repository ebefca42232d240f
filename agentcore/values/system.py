"""Who acts where no person does."""

from __future__ import annotations

from typing import Final


class System:
    """The type of `SYSTEM`: code that acts for nobody and may do everything."""

    def __repr__(self) -> str:
        return "SYSTEM"


SYSTEM: Final = System()
