"""What a run would ask and cost, before it does: rows, calls, tokens, money and GPU minutes per rule."""

import json
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from fledgling.artefacts import Json
from fledgling.choose_shots import COUNTS, SETS
from fledgling.config import SLM, Config
from fledgling.contenders import Job, answering, answers_as, gpus_for_shots, jobs, of
from fledgling.errors import ConfigError
from fledgling.forecast import earlier
from fledgling.forecast.history import History
from fledgling.forecast.looks import Looks
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
    `minutes` are those that the job took last time, on whatever it ran; `machine` is what they cost at
    slm.price_per_hour, in the currency of the teacher's prices. `built`: its file is there, and it runs only where
    `snakemake -n` lists it.
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
    minutes: float | None = None
    machine: float | None = None
    built: bool = False
    expected: float | None = None
    """Share of the calls and the money that is expected, where rows are bought in looks; the line is at most."""


def plan(config: Config, *, results: Path, journal: Path) -> list[Line]:
    """The jobs of all configured tracks that cost money or cards, from the prepared data and the journal."""
    history = History.of(results)
    return [
        _timed(_line(job, config, results, journal), job, config, results, history)
        for track in config["tracks"]
        for job in jobs(config, track)
    ]


def _timed(line: Line, job: Job, config: Config, results: Path, history: History) -> Line:
    """The line with what it took last time, and whether its file is there."""
    part = "repeat/" if job.repeat else "val/" if job.split == "val" else ""
    target = {
        "train": results / "adapters" / job.track / job.contender / "training.json",
        "choose_shots": results / "shots" / job.track / f"{job.contender}.jsonl",
    }.get(job.rule, results / "predictions" / job.track / f"{part}{job.contender}.jsonl")
    seconds = history.seconds(job)
    gpus = {
        "train": config["training"]["gpus"],
        "choose_shots": gpus_for_shots(config, job.contender) if job.rule == "choose_shots" else 0,
        "ask": 0,
    }.get(job.rule, gpus_of(config, job.contender))
    if line.gpu_minutes is None and seconds is not None and gpus and job.rule != "ask":
        line = replace(line, gpu_minutes=gpus * seconds / 60)
    price = answering(config, job.contender).get("price_per_hour") if job.rule in ("answer", "choose_shots") else None
    price = config[SLM].get("price_per_hour") if job.rule == "train" else price
    return replace(
        line,
        built=target.exists(),
        minutes=None if seconds is None else seconds / 60,
        machine=None if seconds is None or price is None else float(str(price)) * seconds / 3600,
    )


def _line(job: Job, config: Config, results: Path, journal: Path) -> Line:
    if job.rule == "ask":
        return _ask(job, config, results, journal)
    if job.rule == "train":
        return _train(job, config, results)
    return _choose_shots(job, config, results) if job.rule == "choose_shots" else _answer(job, config, results)


def _ask(job: Job, config: Config, results: Path, journal: Path) -> Line:
    data = results / "data" / job.track / f"{job.split}.jsonl"
    if not data.exists():
        return Line(*_who(job), gpu_minutes=0, note=f"unknown until {data} is built{_replies(journal)}")
    teacher, prompt = Teacher.of(config["teacher"]), config["tracks"][job.track].get("prompt", {})
    notes = [] if teacher.prices else ["prices are not configured (teacher.prices)"]
    try:
        endpoint = address(teacher).endpoint
    except ConfigError as error:
        endpoint = Endpoint("unknown", "unknown")
        notes.append(f"at most: what is kept is unknown, as {error}")
    looks = Looks() if teacher.looks is not None and (job.split, job.repeat) == ("test", 0) else None
    rows, counted, guess, known, said = 0, Keys(), [0.0, 0.0], [0.0, 0.0], [0, 0]
    replies = kept = calls = 0
    # A plan makes no folder.
    with Journal(journal, "teacher") if (journal / "teacher.jsonl").exists() else nullcontext() as journalled:
        for example in read_examples(data):
            call = request(example, teacher, endpoint, prompt, job.repeat)
            tokens = (prompt_tokens(call.body), min(answer_tokens(example), teacher.max_tokens))
            rows += 1
            record = None if journalled is None else journalled.get(call.key)
            if looks is not None:
                looks.add(example.group, call=record is None and call.key not in counted)
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
    money = prices.cost(*guess) if prices else None
    share = None
    if looks is not None and rows:
        share, words = looks.expected(config, job.track)
        notes.append(
            words
            if money is None or prices is None
            else f"{words}: {share * money:.4f} of at most {money:.4f} {prices.currency}"
        )
    return Line(
        *_who(job),
        rows,
        kept if endpoint.host != "unknown" else None,
        calls,
        round(guess[0]),
        round(guess[1]),
        money,
        prices.currency if prices else None,
        0,
        "; ".join(notes),
        expected=share,
    )


def _replies(journal: Path) -> str:
    """How many paid replies are kept, which of the rows to come may be answered by."""
    if not (journal / "teacher.jsonl").exists():
        return ""
    with Journal(journal, "teacher") as kept:
        return f"; {len(kept):,} paid replies are kept in {journal} and answer the same requests again"


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


def _choose_shots(job: Job, config: Config, results: Path) -> Line:
    """Every row of val, as often as there are choices; the time is known once it has run."""
    rows = earlier.rows(results, job.track, "val")
    automatic = of(config, job.contender).shots == "auto"
    times = len(COUNTS) * SETS if automatic else 0
    minutes = 0 if not gpus_for_shots(config, job.contender) else None
    return Line(*_who(job), None if rows is None else rows * times, gpu_minutes=minutes, note=job.condition)


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


COLUMNS = ("rule", "track", "who", "rows", "kept", "calls", "prompt", "completion", "money", "minutes", "GPU min", "")


def table(lines: list[Line]) -> str:
    """The plan for people: one line a job, and the sums of money and time where all of it is known."""
    rows = [COLUMNS, *(_cells(line) for line in lines)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    asks = [line for line in lines if line.rule == "ask"]
    total = price(asks)
    if total is not None and any(line.expected is not None for line in asks):
        likely = sum((line.money or 0) * (1 if line.expected is None else line.expected) for line in asks)
        total = f"{total} at most, about {likely:.4f} if a contender is as good as the teacher (teacher.looks)"
    return "\n".join([*padded, f"total: {total or 'unknown'}{_machine_time(lines)}"])


def price(asks: list[Line]) -> str | None:
    """What jobs that ask the teacher cost at most; None where there are none, or one that nobody knows it of."""
    if not asks or any(line.money is None for line in asks):
        return None
    return f"{sum(line.money or 0 for line in asks):.4f} {asks[0].currency}"


def _machine_time(lines: list[Line]) -> str:
    """What the jobs took last time, and what that costs on this machine; of unknown parts the count."""
    timed = [line for line in lines if line.minutes is not None]
    if not timed:
        return "; minutes are known after the first run"
    own = [line for line in timed if line.rule != "ask"]
    minutes = sum(line.minutes or 0 for line in timed)
    currency = next((line.currency for line in lines if line.currency), "")
    known = own and all(line.machine is not None for line in own)
    money = f", of this machine {sum(line.machine or 0 for line in own):.4f} {currency}".rstrip() if known else ""
    rest = len(lines) - len(timed)
    return f"; last time {minutes:.1f} minutes{money}" + (
        f" ({rest} of {len(lines)} jobs have not run yet)" if rest else ""
    )


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
        money if ask else "" if line.machine is None else f"({line.machine:.4f})",
        "unknown" if line.minutes is None else f"{line.minutes:.1f}",
        "unknown" if line.gpu_minutes is None else f"{line.gpu_minutes:.1f}",
        "; ".join(filter(None, ["built" * line.built, line.note])),
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
