"""What a run would ask and cost, before it does: rows, calls, tokens, money and GPU minutes per rule."""

import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fledgling.errors import ConfigError
from fledgling.forecast import earlier
from fledgling.journal import Journal
from fledgling.journal.places import Keys
from fledgling.records import Example, read_examples
from fledgling.teacher.address import address
from fledgling.teacher.answers import read
from fledgling.teacher.prices import Prices, prompt_tokens, text_tokens
from fledgling.teacher.requests import Endpoint, Teacher, request

ASKS = ("ask", "ask_repeat")  # the rules that cost money
ENOUGH = 20  # replies from which the guess of tokens is corrected


@dataclass(frozen=True, slots=True)
class Line:
    """One job of the graph. None is unknown, which is never 0; `note` says why or under which condition.

    `kept` of the `rows` are in the journal already, `calls` are left. Tokens and money are those of the calls.
    """

    rule: str
    track: str
    rows: int | None = None
    kept: int | None = None
    calls: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    money: float | None = None
    currency: str | None = None
    gpu_minutes: float | None = None
    note: str = ""


def plan(config: Mapping[str, Any], *, results: Path, journal: Path) -> list[Line]:
    """The jobs of all configured tracks that cost money or cards, from the prepared data and the journal."""
    lines: list[Line] = []
    for track, block in config["tracks"].items():
        data = results / "data" / track / "test.jsonl"
        teacher = Teacher.of(config["teacher"])
        asked = _ask("ask", track, block, teacher, data, journal)
        lines.append(asked)
        policy = block.get("finetune", "auto")
        lines.append(_predict("predict", track, asked.rows, "slm", config, results))
        condition = "" if policy == "always" else "if the gate asks for it"
        if policy != "never":
            lines.append(_train(track, config, results, condition))
            if (candidates := config["recipe"].get("candidates", 1)) > 1:
                val = earlier.rows(results, track, "val")
                rows = None if val is None else candidates * val
                lines.append(_predict("predict_candidate", track, rows, "tuned", config, results, condition))
            lines.append(_predict("predict_tuned", track, asked.rows, "tuned", config, results, condition))
        twice = config.get("repeats", [])
        if "teacher" in twice:
            lines.append(_ask("ask_repeat", track, block, teacher, data, journal, repeat=1))
        if "slm" in twice:
            lines.append(_predict("predict_repeat", track, asked.rows, "slm", config, results))
        if "tuned" in twice and policy != "never":
            lines.append(_predict("predict_tuned_repeat", track, asked.rows, "tuned", config, results, condition))
    return lines


def _ask(
    rule: str, track: str, block: Mapping[str, Any], teacher: Teacher, data: Path, journal: Path, repeat: int = 0
) -> Line:
    if not data.exists():
        return Line(rule, track, gpu_minutes=0, note=f"unknown until {data} is built")
    prompt = block.get("prompt", {})
    notes = [] if teacher.prices else ["prices are not configured (teacher.prices)"]
    try:
        endpoint = address(teacher).endpoint
    except ConfigError as error:
        endpoint = Endpoint("unknown", "unknown")
        notes.append(f"at most: what is kept is unknown, as {error}")
    rows, counted, guess, known, said = 0, Keys(), [0.0, 0.0], [0.0, 0.0], [0, 0]
    replies = kept = calls = 0
    # A plan makes no folder.
    with Journal(journal, "teacher") if (journal / "teacher.jsonl").exists() else nullcontext() as journalled:
        for example in read_examples(data):
            call = request(example, teacher, endpoint, prompt, repeat)
            tokens = (prompt_tokens(call.body), min(answer_tokens(example), teacher.max_tokens))
            rows += 1
            record = None if journalled is None else journalled.get(call.key)
            if record is None:
                if call.key not in counted:
                    counted.add(call.key)
                    calls += 1
                    guess = [total + count for total, count in zip(guess, tokens, strict=True)]
            else:
                kept += 1
                answer = read(record["status"], record["body"])
                if answer and len(answer.usage) == 2:
                    replies += 1
                    said = [said[0] + answer.usage["prompt_tokens"], said[1] + answer.usage["completion_tokens"]]
                    known = [total + count for total, count in zip(known, tokens, strict=True)]
    if replies >= ENOUGH:
        guess = [total * actual / guessed for total, actual, guessed in zip(guess, said, known, strict=True)]
    prices = Prices.of(teacher.prices)
    return Line(
        rule,
        track,
        rows,
        kept if endpoint.host != "unknown" else None,
        calls,
        round(guess[0]),
        round(guess[1]),
        prices.cost(*guess) if prices else None,
        prices.currency if prices else None,
        0,
        "; ".join(notes),
    )


def answer_tokens(example: Example) -> int:
    """About how many tokens a right answer to a row has."""
    if example.tools and isinstance(example.answer, list):
        return sum(text_tokens(f"{call['name']} {_json(call['arguments'])}") for call in example.answer) or 8
    return text_tokens(_json(example.answer))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _predict(
    rule: str, track: str, rows: int | None, contender: str, config: Mapping[str, Any], results: Path, note: str = ""
) -> Line:
    """GPU minutes follow from how long the same rows took last time."""
    gpus = config["slm"].get("gpus", 0)
    minutes: float | None = None if gpus else 0
    if gpus and rows is not None:
        seconds = earlier.seconds_a_row(results, track, contender)
        minutes = None if seconds is None else gpus * rows * seconds / 60
    return Line(rule, track, rows, gpu_minutes=minutes, note=note)


def _train(track: str, config: Mapping[str, Any], results: Path, note: str) -> Line:
    """GPU minutes are those of the last training of this track."""
    gpus = config["training"]["gpus"]
    minutes: float | None = None if gpus else 0
    if gpus and (summary := earlier.training(results, track)):
        seconds = summary.get("seconds")
        minutes = None if seconds is None else gpus * seconds / 60
    return Line("train", track, gpu_minutes=minutes, note=note)


COLUMNS = ("rule", "track", "rows", "kept", "calls", "prompt", "completion", "money", "GPU min", "")


def table(lines: list[Line]) -> str:
    """The plan for people: one line a job, and the sum of the money where all of it is known."""
    rows = [COLUMNS, *(_cells(line) for line in lines)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    asks = [line for line in lines if line.rule in ASKS]
    known = all(line.money is not None for line in asks)
    total = f"{sum(line.money or 0 for line in asks):.4f} {asks[0].currency}" if asks and known else "unknown"
    return "\n".join([*padded, f"total: {total}"])


def _cells(line: Line) -> tuple[str, ...]:
    ask = line.rule in ASKS
    counts = (line.kept, line.calls, line.prompt_tokens, line.completion_tokens)
    money = "unknown" if line.money is None else f"{line.money:.4f} {line.currency}"
    return (
        line.rule,
        line.track,
        "" if line.rule == "train" else _number(line.rows),
        *(_number(count) if ask else "" for count in counts),
        money if ask else "",
        "unknown" if line.gpu_minutes is None else f"{line.gpu_minutes:.1f}",
        line.note,
    )


def _number(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"
