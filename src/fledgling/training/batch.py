"""A micro-batch: rows of tokens one behind the other."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from fledgling.training.tokens import IGNORED, Row


@dataclass(frozen=True, slots=True)
class Batch:
    """One micro-batch: `starts` are the bounds of its rows; at `places` the next token is a target."""

    ids: torch.Tensor
    positions: torch.Tensor
    starts: torch.Tensor
    places: torch.Tensor
    targets: torch.Tensor

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "Batch":
        """The rows one behind the other. Where the loss is, is found here: asking the card would make the host wait."""
        ids = [token for row in rows for token in row.input_ids]
        positions = [place for row in rows for place in range(len(row.input_ids))]
        starts, places, targets = [0], [], []
        for row in rows:
            learned = [place for place, label in enumerate(row.labels) if label != IGNORED and place]
            places += [starts[-1] + place - 1 for place in learned]
            targets += [row.labels[place] for place in learned]
            starts.append(starts[-1] + len(row.input_ids))
        return cls(
            ids=torch.tensor([ids]),
            positions=torch.tensor([positions]),
            starts=torch.tensor(starts, dtype=torch.int32),
            places=torch.tensor(places, dtype=torch.long),
            targets=torch.tensor(targets, dtype=torch.long),
        )

    def padded(self, tokens: int, *, longest: int) -> "Batch":
        """With tokens behind it that nothing is learned from, so that there are `tokens`; they are rows of `longest`,
        all at position 0, so that none lies beyond those of real rows.
        """
        here = self.ids.shape[1]
        ends = [*range(here + longest, tokens, longest), tokens]
        return dataclasses.replace(
            self,
            ids=torch.nn.functional.pad(self.ids, (0, tokens - here)),
            positions=torch.nn.functional.pad(self.positions, (0, tokens - here)),
            starts=torch.cat([self.starts, torch.tensor(ends, dtype=torch.int32)]),
        )

    def bounded(self, bounds: int) -> "Batch":
        """With rows without a token behind it, so that `starts` has so many bounds, if it had fewer.

        torch.compile takes the number of them for granted: where another one comes, it compiles again.
        """
        missing = max(0, bounds - len(self.starts))
        return dataclasses.replace(self, starts=torch.cat([self.starts, self.starts[-1:].expand(missing)]))

    def to(self, device: torch.device) -> "Batch":
        """The same on a device, on its way while the host goes on."""
        if device.type == "cpu":
            return self
        tensors = (self.ids, self.positions, self.starts, self.places, self.targets)
        return Batch(*(tensor.pin_memory().to(device, non_blocking=True) for tensor in tensors))

    def cloned(self) -> "Batch":
        """The same in tensors of its own."""
        return Batch(*(tensor.clone() for tensor in (self.ids, self.positions, self.starts, self.places, self.targets)))

    def take(self, other: "Batch") -> None:
        """Take over the tokens of a batch of the same shape, in place; the targets stay."""
        self.ids.copy_(other.ids)
        self.positions.copy_(other.positions)
        self.starts.copy_(other.starts)
