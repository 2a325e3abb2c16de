"""What the teacher's answers to test will cost where they are bought in looks: a range, and what is expected."""

from dataclasses import dataclass, field

from fledgling.bought import order
from fledgling.config import Config
from fledgling.decision import buying, sequential

DISCORDANCE = 0.2  # share of rows on which two models differ, before it is known


@dataclass(slots=True)
class Looks:
    """The rows of a split as they come: the group of each, and whether it is a call (not kept, not a copy)."""

    groups: list[str] = field(default_factory=list)
    calls: list[bool] = field(default_factory=list)

    def add(self, group: str, *, call: bool) -> None:
        """Count one row."""
        self.groups.append(group)
        self.calls.append(call)

    def expected(self, config: Config, track: str) -> tuple[float, str]:
        """The share of the calls that is expected for a contender as good as the teacher, and a sentence with the range.

        Raises:
            ValueError: there are no rows, or looks are off.
        """
        decision, block = config["decision"], config["tracks"][track]
        places = order(self.groups, buying.key(track))
        groups, calls = [self.groups[place] for place in places], [self.calls[place] for place in places]
        planned = sequential.plan(groups, alpha=decision["alpha"], first=config["teacher"]["looks"])
        margin = block.get("margin", decision["margin"])
        guess = sequential.expected(planned, margin=margin, discordance=max(DISCORDANCE, margin))
        upto = [sum(calls[:look]) for look in planned.looks]
        mean = sum(count * share for count, share in zip(upto, guess.shares, strict=True))
        share = mean / upto[-1] if upto[-1] else 1.0
        if len(planned.looks) == 1:
            return 1.0, "too few rows for a look before the end (teacher.looks)"
        return share, (
            f"in looks: {upto[0]:,} to {upto[-1]:,} calls, about {sequential.about(mean):,} if a contender is as good as "
            f"the teacher (differing on {100 * guess.discordance:g} % of the rows)"
        )
