"""What a run would ask and cost, before it does: rows, calls, tokens, money and GPU minutes per rule."""

import json
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from fledgling.artefacts import Json
from fledgling.config import Config
from fledgling.contenders import Job, answering, answers_as, jobs
from fledgling.errors import ConfigError
from fledgling.forecast import earlier
from fledgling.journal import Journal
from fledgling.journal.places import Keys
from fledgling.records import Example, read_examples
from fledgling.teacher.address import address
from fledgling.teacher.answers import read
from fledgling.teacher.prices import Prices, prompt_tokens
from fledgling.teacher.requests import Endpoint, Teacher, request
from fledgling.tokens import text_tokens

ENOUGH = 20  # replies from which the guess of tokens is corrected


@dataclass(frozen=True, slots=True)
class Line:
    """One job of the graph. None is unknown, which is never 0; `note` says why or under which condition.

    `contender` answers `split` (a training has its adapter there, and no split), `repeat` is 1 for a second run.
    `kept` of the `rows` are in the journal already, `calls` are left. Tokens and money are those of the calls.
    """

    rule: str
    track: str
    contender: str
    split: str | None = "test"
    repeat: int = 0
    rows: int | None = None
    kept: int | None = None
    calls: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    money: float | None = None
    currency: str | None = None
    gpu_minutes: float | None = None
    note: str = ""


def plan(config: Config, *, results: Path, journal: Path) -> list[Line]:
    """The jobs of all configured tracks that cost money or cards, from the prepared data and the journal."""
    return [_line(job, config, results, journal) for track in config["tracks"] for job in jobs(config, track)]


def _line(job: Job, config: Config, results: Path, journal: Path) -> Line:
    if job.rule == "ask":
        return _ask(job, config, results, journal)
    return _train(job, config, results) if job.rule == "train" else _answer(job, config, results)


def _ask(job: Job, config: Config, results: Path, journal: Path) -> Line:
    data = results / "data" / job.track / f"{job.split}.jsonl"
    if not data.exists():
        return Line(*_who(job), gpu_minutes=0, note=f"unknown until {data} is built")
    teacher, prompt = Teacher.of(config["teacher"]), config["tracks"][job.track].get("prompt", {})
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
            call = request(example, teacher, endpoint, prompt, job.repeat)
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
        *_who(job),
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


def _json(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False)


def _answer(job: Job, config: Config, results: Path) -> Line:
    """GPU minutes follow from how long the same rows took last time."""
    gpus = gpus_of(config, job.contender)
    rows = earlier.rows(results, job.track, job.split or "test")
    minutes: float | None = None if gpus else 0
    if gpus and rows is not None:
        seconds = earlier.seconds_a_row(results, job.track, answers_as(config, job.contender))
        minutes = None if seconds is None else gpus * rows * seconds / 60
    return Line(*_who(job), rows, gpu_minutes=minutes, note=job.condition)


def gpus_of(config: Config, contender: str) -> int:
    """GPUs that a contender's answers claim."""
    return int(str(answering(config, contender).get("gpus") or 0))


def _train(job: Job, config: Config, results: Path) -> Line:
    """GPU minutes are those of the last training of this adapter."""
    gpus = config["training"]["gpus"]
    minutes: float | None = None if gpus else 0
    if gpus and (summary := earlier.training(results, job.track, job.contender)):
        minutes = gpus * summary["seconds"] / 60
    return Line(*_who(job), gpu_minutes=minutes, note=job.condition)


def _who(job: Job) -> tuple[str, str, str, str | None, int]:
    return job.rule, job.track, job.contender, job.split, job.repeat


COLUMNS = ("rule", "track", "who", "rows", "kept", "calls", "prompt", "completion", "money", "GPU min", "")


def table(lines: list[Line]) -> str:
    """The plan for people: one line a job, and the sum of the money where all of it is known."""
    rows = [COLUMNS, *(_cells(line) for line in lines)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    asks = [line for line in lines if line.rule == "ask"]
    known = all(line.money is not None for line in asks)
    total = f"{sum(line.money or 0 for line in asks):.4f} {asks[0].currency}" if asks and known else "unknown"
    return "\n".join([*padded, f"total: {total}"])


def _cells(line: Line) -> tuple[str, ...]:
    ask = line.rule == "ask"
    counts = (line.kept, line.calls, line.prompt_tokens, line.completion_tokens)
    money = "unknown" if line.money is None else f"{line.money:.4f} {line.currency}"
    return (
        line.rule,
        line.track,
        who(line),
        "" if line.rule == "train" else _number(line.rows),
        *(_number(count) if ask else "" for count in counts),
        money if ask else "",
        "unknown" if line.gpu_minutes is None else f"{line.gpu_minutes:.1f}",
        line.note,
    )


def who(line: Line | Job) -> str:
    """Who answers what, in a word or two."""
    return " ".join(
        filter(
            None, [line.contender, "" if line.split in (None, "test") else f"on {line.split}", "again" * line.repeat]
        )
    )


def _number(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"
