"""How the tools of a server are used: what each may do, who must agree, and how long it may take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mcp_types import Tool as ServerTool

from ..declaration import declared
from ..declaration.tool import Checkable, EffectKind, NeedsApproval
from ..exceptions import UserError


@dataclass(frozen=True)
class Rule:
    """What holds for one tool of a server; what is None is as `mcp_tools` says for all, or as `tool` has it."""

    needs_approval: NeedsApproval | None = None
    effect: str | Checkable | None = None
    timeout: float | None = None
    retries: int = 0
    offered: bool = True
    """Whether the agent has this tool at all."""


Rules = Mapping[str, Rule] | Callable[[ServerTool], Rule | None]
"""Rules by the name that the server gives a tool, or a function of the tool, which returns None for no rule."""


@dataclass(frozen=True)
class Policy:
    """What `mcp_tools` was told of all the tools of a server, and of single ones."""

    needs_approval: NeedsApproval
    effect: str | Checkable | None
    timeout: float | None
    trust_annotations: bool
    rules: Rules

    def __post_init__(self) -> None:
        """Raise `UserError` for what are no rules."""
        if callable(self.rules):
            declared.function("mcp_tools: rules", self.rules, "tool")
        elif not isinstance(self.rules, Mapping) or not all(isinstance(rule, Rule) for rule in self.rules.values()):
            raise UserError('mcp_tools: rules: write {"name of a tool": Rule(…)}, or a function of the tool.')

    def rule(self, tool: ServerTool) -> Rule:
        """Return what holds for a tool; raises `UserError` where the function of the application's gives no rule."""
        found = self.rules(tool) if callable(self.rules) else self.rules.get(tool.name)
        if not isinstance(found, Rule | None):
            raise UserError(f"mcp_tools: the rule for a tool is {declared.shown(found)}: return Rule(…), or None.")
        given = found or Rule()
        return Rule(
            needs_approval=self.needs_approval if given.needs_approval is None else given.needs_approval,
            effect=given.effect or self.effect or self._effect(tool),
            timeout=given.timeout or self.timeout,
            retries=given.retries,
            offered=given.offered,
        )

    def _effect(self, tool: ServerTool) -> EffectKind:
        """Return the effect that nobody has declared: what the server says, where it is trusted."""
        said = tool.annotations if self.trust_annotations else None
        if said is not None and said.read_only_hint:
            return EffectKind.PURE
        return EffectKind.IDEMPOTENT if said is not None and said.idempotent_hint else EffectKind.UNSAFE
