"""What a track is held to."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from fledgling.artefacts import Datasheet, Ruled, Rung
from fledgling.contenders import TEACHER
from fledgling.decision import sequential
from fledgling.errors import ConfigError
from fledgling.graph.sees import Settings
from fledgling.tracks.words import floor

# Right by form alone: an answer that needs no model is legitimately as good, so no floor is held against these.
FORM = frozenset({"json_valid_rate", "schema_valid_rate", "valid_call_rate"})


@dataclass(frozen=True, slots=True)
class Rule:
    """What a track is held to; see `decision` in config/README.md for margin, alpha, power and min_coverage."""

    track: str
    title: str
    kind: Literal["structured", "toolcall"]
    core: tuple[str, ...]
    margin: float
    alpha: float
    power: float
    min_coverage: float
    resamples: int
    seed: int
    policy: Literal["auto", "always", "never"]
    allow_mixed_models: bool
    simulated: bool
    gold: Literal["reply", "feedback"] | None = None
    """Where the rows' answers are logged replies (`feedback`: approved ones), so that scores are agreement with them."""
    family: Literal["sequence", "holm", "each"] = "sequence"
    configured: tuple[tuple[str, bool], ...] = ()
    """Every contender that may be built, cheapest first, and whether it needs training."""
    nominee: str | None = None
    """The dearest contender that was built before test was opened; None takes the last that is judged."""
    passed_over: tuple[str, ...] = ()
    """Contenders of which val leaves no hope: a sequence goes on below them without testing them."""
    further: bool = False
    """Whether one more is built where test does not confirm the nominee."""
    labels: tuple[tuple[str, str], ...] = ()
    """What people call the contenders: (name, label)."""
    first_look: int | None = None
    """Where the teacher's rows are bought in looks: rows of the first, at least."""
    looks: sequential.Plan | None = None
    """The looks that were planned, once rows are bought in such."""
    bought: int = 0
    """Rows that the present look is over, of those planned."""

    @classmethod
    def of(cls, track: str, settings: Settings) -> "Rule":
        """The rule in a script's settings: {"decision", "seed", "track", "simulated", "allow_mixed_models"}.

        Raises:
            ConfigError: a key is missing, or the core metrics ask for form only.
        """
        try:
            decision, block = settings["decision"], settings["track"]
            rule = cls(
                track=track,
                title=block.get("title", track),
                kind=block["kind"],
                core=tuple(decision["core"][block["kind"]]),
                margin=block.get("margin", decision["margin"]),
                alpha=decision["alpha"],
                power=decision["power"],
                min_coverage=decision["min_coverage"],
                resamples=decision["resamples"],
                seed=settings["seed"],
                policy=block["finetune"],
                allow_mixed_models=settings.get("allow_mixed_models", False),
                simulated=settings.get("simulated", False),
                family=decision.get("family", "sequence"),
                configured=_configured(settings),
                first_look=settings.get("looks"),
            )
        except KeyError as error:
            raise ConfigError(f"--settings: key {error} is missing") from None
        if not rule.floored:
            raise ConfigError(
                f"decision.core.{rule.kind}: {', '.join(rule.core)} ask for form only, which answers that "
                "need no model have too; add a metric that asks for the right content"
            )
        return rule.naming(settings.get("ladder", ()))

    def naming(self, ladder: Iterable[Rung]) -> "Rule":
        """The rule, with what people call these contenders."""
        return replace(self, labels=tuple((rung["name"], rung["label"]) for rung in ladder))

    def called(self, name: str) -> str:
        """What people call somebody who answers: the teacher, a contender by its label, a floor by what it does."""
        return "the teacher" if name == TEACHER else dict(self.labels).get(name) or floor(name)

    def over(self, datasheet: Datasheet) -> "Rule":
        """The rule, with what the answers of these rows are."""
        traced = datasheet.get("traces")
        return replace(self, gold=traced["gold"]) if traced else self

    def at_look(self, looks: sequential.Plan, rows: int) -> "Rule":
        """The rule at the look over so many rows."""
        return replace(self, looks=looks, bought=rows)

    def level(self, alpha: float) -> float:
        """The level of one test for which alpha is spent: alpha, or its part at this look."""
        return alpha if self.looks is None else sequential.level_for(self.looks, self.bought, alpha)

    @property
    def alone(self) -> "Rule":
        """The rule for one test, with all of alpha for it, or all that this look has."""
        return self if self.looks is None else replace(self, alpha=self.level(self.alpha), looks=None)

    @property
    def match(self) -> str:
        """What an answer counts as that scores: as right, or only as one with what was logged."""
        return "right" if self.gold is None else "a match"

    @property
    def floored(self) -> tuple[str, ...]:
        """The core metrics on which floors have to be beaten."""
        return tuple(metric for metric in self.core if metric not in FORM)

    @property
    def confidence(self) -> str:
        """How sure a one-sided bound is, for sentences."""
        share = 100 * (1 - self.alpha)
        return f"{share if self.first_look is None else math.floor(100 * share + 1e-6) / 100:g} % confidence"

    def header(self) -> Ruled:
        """The part of the rule that both files repeat."""
        header: Ruled = {
            "track": self.track,
            "kind": self.kind,
            "title": self.title,
            "simulated": self.simulated,
            "policy": self.policy,
            "margin": self.margin,
            "alpha": self.alpha,
            "power": self.power,
            "min_coverage": self.min_coverage,
            "core": list(self.core),
        }
        return header if self.gold is None else {**header, "gold": self.gold}


def _configured(settings: Settings) -> tuple[tuple[str, bool], ...]:
    """The contenders of the ladder that the track's policy lets be built."""
    known = tuple((rung["name"], rung["adapter"] is not None) for rung in settings.get("ladder", ()))
    return tuple(one for one in known if not one[1]) if settings["track"]["finetune"] == "never" else known
