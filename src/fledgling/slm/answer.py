"""The stage that asks the slm every row of a split."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fledgling.errors import DataError
from fledgling.files import digest
from fledgling.journal import Journal
from fledgling.models import adapter
from fledgling.models import checkpoint as manifest
from fledgling.models.offline import offline_and_quiet
from fledgling.progress import progress_bar
from fledgling.prompting import template as prompts
from fledgling.prompting.turns import schema_place
from fledgling.records import Example, Prediction, read_examples
from fledgling.sealing import write_predictions
from fledgling.slm.engine import Answer, Decoding, Engine, Request, Slm, choose

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """One example as it is asked: its id, its request and the digest of that with how it is decoded."""

    id: str
    request: Request
    digest: str


@dataclass(frozen=True, slots=True)
class Ask:
    """Rows that one contender answers: the file of rows, the manifest of its adapter if it has one, and its file."""

    data: Path
    adapter: Path | None
    out: Path


@dataclass(frozen=True, slots=True)
class _Work:
    """One `Ask`, ready: `run` names what answers, `todo` is what the journal does not hold yet."""

    ask: Ask
    rows: list[Asked]
    tuned: adapter.Adapter | None
    identity: str
    run: str
    fitting: dict[str, Asked]
    known: dict[str, Answer]

    @property
    def todo(self) -> list[Asked]:
        """Rows that an engine has to answer."""
        return [row for row in self.fitting.values() if row.digest not in self.known]


def answer(
    *,
    track: str,
    data: Path,
    model: Path,
    adapter_path: Path | None,
    settings: dict[str, Any],
    journal: Path,
    out: Path,
) -> None:
    """`answer_all` for one contender and one file of rows."""
    asks = [Ask(data, adapter_path, out)]
    answer_all(asks, track=track, model=model, settings=settings, journal=journal)


def answer_all(asks: Sequence[Ask], *, track: str, model: Path, settings: dict[str, Any], journal: Path) -> None:
    """Write one prediction a row for every ask, in the order of its rows, with one start of one engine for all.

    All are answered by one checkpoint, with or without an adapter. Finished work lies in the journal: a run that was
    killed goes on, and rows that were added are the only ones asked. The unit is a row, or a whole batch where rows of
    a batch influence each other (int8): then other rows make other batches, which are asked again. `repeat` in the
    settings asks everything a second time, in another order and so in other batches.

    Raises:
        DataError: the checkpoint or an adapter is damaged, or an adapter belongs to another base.
        ConfigError: the engine cannot do what is asked on this machine.
        Unavailable: an engine process ended; the same command goes on.
    """
    offline_and_quiet()
    slm = settings["slm"]
    base = manifest.load(model, verify=True)
    engine = choose(slm["engine"], slm["precision"], schema_guided=slm.get("schema_guided", False))

    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base.checkpoint.resolve(), local_files_only=True)
    decoding = Decoding(
        max_new_tokens=settings["track"]["max_new_tokens"],
        stops=stop_tokens(tokenizer, base.checkpoint),
        pad=tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
    )
    unit = "batch" if slm["precision"] == "int8" else "row"
    with Journal(journal, "slm") as finished:
        works = []
        for each in asks:
            tuned = adapter.load(each.adapter, base) if each.adapter else None
            folder = tuned.folder if tuned else None
            rows = ask(list(read_examples(each.data)), tokenizer, decoding, settings, folder)
            identity = fingerprint(engine, slm["precision"], base.fingerprint, tuned.digest if tuned else None)
            run = digest([identity, settings["repeat"]]) if settings.get("repeat") else identity
            fitting = {row.digest: row for row in rows if len(row.request.prompt) <= slm["max_prompt_tokens"]}
            known = _known(fitting, run, finished) if unit == "row" else {}
            works.append(_Work(each, rows, tuned, identity, run, fitting, known))
            how = (len(rows), len(works[-1].todo), slm["precision"], engine)
            log.info("%s: %d rows, %d of them to be asked, %s on %s", track, *how)
        if any(work.todo for work in works):
            folders = {work.tuned.folder: None for work in works if work.tuned and work.todo}
            loaded = load(engine, base.checkpoint, decoding, settings, list(folders))
            assert loaded.unit == unit
            total, done = sum(len(work.fitting) for work in works), sum(len(work.known) for work in works)
            bar = progress_bar(desc=f"slm {track}", total=total, initial=done)
            for work, batch, answered in _answers(loaded, works, finished):
                work.known.update(zip((row.digest for row in batch), answered, strict=True))
                bar.update(len(batch))
            bar.close()
    name = adapter.name_of(base)
    for work in works:
        found = ((row, work.known.get(row.digest)) for row in work.rows)
        write_predictions(
            work.ask.out,
            (prediction(row, given, tokenizer, decoding, name, work.identity).to_json() for row, given in found),
            made_from=[work.ask.data, model, *([work.ask.adapter] if work.ask.adapter else [])],
        )


def _known(rows: dict[str, Asked], run: str, finished: Journal) -> dict[str, Answer]:
    found = ((name, finished.get(_key(run, [row]))) for name, row in rows.items())
    return {name: Answer(**known["answers"][0]) for name, known in found if known is not None}


def _answers(slm: Slm, works: Sequence[_Work], finished: Journal) -> Iterator[tuple[_Work, list[Asked], list[Answer]]]:
    if slm.unit == "batch" and len(works) > 1:  # a batch is of one work: an answer depends on its neighbours
        for work in works:
            yield from _answers(slm, [work], finished)
        return
    asked = [(work, row) for work in works for row in work.todo]
    by_request = {id(row.request): (work, row) for work, row in asked}

    def found(batch: list[Request]) -> list[Answer] | None:
        """The answers of a whole batch, all under one adapter."""
        places = [by_request[id(request)] for request in batch]
        known = finished.get(_key(places[0][0].run, [row for _, row in places]))
        return None if known is None else [Answer(**answer) for answer in known["answers"]]

    for positions, answers in slm.answers([row.request for _, row in asked], found):
        batch: dict[int, tuple[_Work, list[Asked], list[Answer]]] = {}
        for place, given in zip(positions, answers, strict=True):
            work, row = asked[place]
            _, rows, written = batch.setdefault(id(work), (work, [], []))
            rows.append(row)
            written.append(given)
        units = [
            (work, unit, given)
            for work, rows, written in batch.values()
            for unit, given in (
                [(rows, written)] if slm.unit == "batch" else [([r], [a]) for r, a in zip(rows, written, strict=True)]
            )
        ]
        finished.put_many(
            (_key(work.run, unit), {"answers": [asdict(answer) for answer in given]})
            for work, unit, given in units
            if all(answer.tokens is not None for answer in given)  # out of memory may be over at the next run
        )
        yield from batch.values()


def _key(run: str, rows: list[Asked]) -> str:
    return digest([run, [row.digest for row in rows]])


def ask(
    examples: list[Example], tokenizer: Any, decoding: Decoding, settings: dict[str, Any], folder: Path | None = None
) -> list[Asked]:
    """The examples as requests to the model under the adapter in `folder`, or without one; in order."""
    slm, track = settings["slm"], settings["track"]
    dialect = prompts.dialect_of(tokenizer, slm.get("tool_dialect", "auto"))
    schema = schema_place(track.get("prompt", {}))
    texts = [prompts.prompt(tokenizer, example, schema=schema, dialect=dialect) for example in examples]
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    guided = slm.get("schema_guided", False)
    how = {"greedy": True, "max_new_tokens": decoding.max_new_tokens, "stops": list(decoding.stops)}
    rows = []
    for example, text, prompt in zip(examples, texts, ids, strict=True):
        within = example.schema if guided else None
        asked = digest({"prompt": text, "decoding": how, "schema": within})
        rows.append(Asked(id=example.id, request=Request(prompt=prompt, schema=within, adapter=folder), digest=asked))
    return rows


def prediction(
    row: Asked, answer: Answer | None, tokenizer: Any, decoding: Decoding, model: str, identity: str
) -> Prediction:
    """What goes into the file for one row; `answer` is None where the prompt was too long to ask.

    `raw` keeps markers that are text to the tokenizer (`<|tool_call|>`) and leaves special tokens out.
    """
    usage = {"prompt_tokens": len(row.request.prompt), "completion_tokens": 0}
    same: dict[str, Any] = {"id": row.id, "model": model, "fingerprint": identity, "request": row.digest}
    if answer is None:
        return Prediction(outcome="length", finish_reason="prompt_too_long", usage=usage, **same)
    if answer.tokens is None:
        return Prediction(outcome="error", finish_reason="out_of_memory", usage=usage, **same)
    raw = tokenizer.decode(answer.tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    stopped = bool(answer.tokens) and answer.tokens[-1] in decoding.stops
    return Prediction(
        outcome="length" if not stopped else "ok" if raw.strip() else "empty",
        raw=raw,
        finish_reason="stop" if stopped else "length",
        usage=usage | {"completion_tokens": len(answer.tokens)},
        latency_s=answer.latency_s,
        **same,
    )


def stop_tokens(tokenizer: Any, checkpoint: Path) -> tuple[int, ...]:
    """Every token that ends an answer: the checkpoint's own list, the tokenizer's end, and the end of a turn.

    Raises:
        DataError: there is none, so no answer would ever end.
    """
    from transformers import GenerationConfig

    stops = {tokenizer.eos_token_id, prompts.end_of_turn(tokenizer)}
    if (checkpoint / "generation_config.json").is_file():
        listed = GenerationConfig.from_pretrained(checkpoint.resolve(), local_files_only=True).eos_token_id
        stops |= set(listed) if isinstance(listed, list) else {listed}
    stops.discard(None)
    if not stops:
        raise DataError(f"{checkpoint}: neither tokenizer nor generation_config.json names an end token")
    return tuple(sorted(stops))


def fingerprint(engine: Engine, precision: str, base: str, adapter_digest: str | None) -> str:
    """Names what computes an answer: engine and precision in words, then a digest with base and adapter."""
    return f"{engine}-{precision}-{digest([engine, precision, base, adapter_digest])[:16]}"


def load(
    engine: Engine, checkpoint: Path, decoding: Decoding, settings: dict[str, Any], adapters: Sequence[Path]
) -> Slm:
    """The engine with the model and its adapters in memory."""
    slm = settings["slm"]
    if engine == "vllm":
        from fledgling.slm.vllm_engine import VllmSlm, visible_cards

        return VllmSlm(
            checkpoint,
            precision=slm["precision"],
            max_prompt_tokens=slm["max_prompt_tokens"],
            decoding=decoding,
            seed=settings.get("seed", 0),
            adapters=adapters,
            cards=visible_cards(),
            repeat=settings.get("repeat", 0),
        )
    from fledgling.slm.transformers_engine import TransformersSlm

    return TransformersSlm(
        checkpoint,
        precision=slm["precision"],
        batch_size=slm["batch_size"],
        decoding=decoding,
        adapters=adapters,
        repeat=settings.get("repeat", 0),
    )
