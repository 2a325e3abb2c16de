"""The stage that asks the slm every row of a split."""

import contextlib
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from fledgling import contenders
from fledgling.artefacts import Limits
from fledgling.config import SLM
from fledgling.errors import ConfigError, DataError
from fledgling.files import Object, digest, read_json
from fledgling.journal import Journal
from fledgling.models import adapter, checkpoint
from fledgling.models.offline import importing, offline_and_quiet
from fledgling.progress import progress_bar
from fledgling.prompting import template
from fledgling.prompting.turns import schema_place
from fledgling.records import Example, Prediction, read_examples
from fledgling.sealing import verify_rows, verify_shots, write_predictions
from fledgling.slm.engine import Answer, Decoding, Engine, Request, Slm, choose
from fledgling.slm.guides import Guides, Unguided

log = logging.getLogger(__name__)

SAID = 5  # rows of a kind are named in the log, up to so many
MOST_AHEAD = 8192  # answers that may turn out not to be needed: 45 s of vLLM on an H100, half of one of its starts


@dataclass(frozen=True, slots=True)
class Asked:
    """One example as it is asked: its id, its request and the digest of that with how it is decoded.

    `request` is None where the chat template does not take the row.
    """

    id: str
    request: Request | None
    digest: str


@dataclass(frozen=True, slots=True)
class Ask:
    """Rows that one contender answers: the file of rows, the manifest of its adapter if it has one, and its file.

    Without a file the answers are kept in the journal alone, for whoever asks for them later. `shots` is a file of
    answered rows that are put before each row.
    """

    data: Path
    adapter: Path | None
    out: Path | None
    shots: Path | None = None


@dataclass(frozen=True, slots=True)
class _Split:
    """The rows of one file as they are asked, and what settings alone decided about them."""

    rows: list[Asked]
    limits: list[Limits]


@dataclass(frozen=True, slots=True)
class _Work:
    """One `Ask`, ready: `identity` names what answers, `run` its place in the journal, `known` what is answered.

    What is answered becomes a line of the file as it comes, while the engine works on the rest.
    """

    ask: Ask
    rows: list[Asked]
    limits: list[Limits]
    adapter: Path | None
    identity: str
    run: str
    fitting: dict[str, Asked]
    known: dict[str, Prediction]

    @property
    def todo(self) -> list[Asked]:
        """Rows that an engine has to answer."""
        return [row for row in self.fitting.values() if row.digest not in self.known]


@dataclass(frozen=True, slots=True)
class _Writer:
    """Makes answers the lines of a track's files; `model` is the checkpoint's manifest, `name` what its rows call it."""

    track: str
    model: Path
    name: str
    tokenizer: Any
    decoding: Decoding
    keys: Callable[[str], str]

    def take(self, work: _Work, rows: Iterable[Asked], answers: Iterable[Answer]) -> None:
        """Keep what was answered to some rows of a work."""
        for row, given in zip(rows, answers, strict=True):
            work.known[row.digest] = self._prediction(work, row, given)

    def write(self, works: Iterable[_Work]) -> None:
        """Publish the file of each work that has one, its rows in their order."""
        for work in works:
            if work.ask.out is None:
                continue
            made = [
                replace(found, id=row.id)
                if (found := work.known.get(row.digest))
                else self._prediction(work, row, None)
                for row in work.rows
            ]
            cut = sum(row.outcome == "length" and row.finish_reason == "length" for row in made)
            most = self.decoding.max_new_tokens
            limits = work.limits + _limit(
                self.track, len(made), cut, self.keys("max_new_tokens"), most, "answers were cut off"
            )
            parts = [work.ask.data, self.model, *([work.ask.adapter] if work.ask.adapter else [])]
            parts += [work.ask.shots] if work.ask.shots else []
            write_predictions(work.ask.out, (row.to_json() for row in made), made_from=parts, limits=limits)
            log.info("%s: %s is written", self.track, work.ask.out)

    def _prediction(self, work: _Work, row: Asked, answer: Answer | None) -> Prediction:
        return prediction(row, answer, self.tokenizer, self.decoding, self.name, work.identity)


def answer(
    *,
    track: str,
    data: Path,
    model: Path,
    adapter_path: Path | None,
    settings: Object,
    journal: Path,
    out: Path,
    shots: Path | None = None,
) -> None:
    """`answer_all` for one contender and one file of rows."""
    asks = [Ask(data, adapter_path, out, shots)]
    answer_all(asks, track=track, model=model, settings=settings, journal=journal)


def answer_all(
    asks: Sequence[Ask],
    *,
    track: str,
    model: Path,
    settings: Object,
    journal: Path,
    ahead: Path | None = None,
    untuned: bool = False,
    spelled: Callable[[str], str] | None = None,
) -> None:
    """For every ask, write one prediction a row in the order of its rows, and what settings alone decided.

    All are answered by one checkpoint, with or without an adapter, and by one start of one engine. Finished work lies
    in the journal: a run that was killed goes on, and rows that were added are the only ones asked. The unit is a row,
    or a whole batch where rows of a batch influence each other (int8): then other rows make other batches, which are
    asked again. `repeat` in the settings asks everything a second time, in another order and so in other batches.
    `spelled` says how the configuration spells a key that this contender answers with, for what is said of it.
    `ahead` are rows that one of the adapters will be asked next: where an engine has to start anyway and an own start for
    them would cost more, all answer them as well, into the journal; if `untuned`, so does the model without one, and the
    rows of the asks.

    Raises:
        DataError: the checkpoint or an adapter is damaged, an adapter belongs to another base, or the chat template
            takes no row at all.
        ConfigError: the engine or the model cannot do what is asked on this machine.
        Unavailable: an engine process ended; the same command goes on.
    """
    offline_and_quiet()
    slm = settings[SLM]
    if ahead is not None:
        verify_rows(ahead)
    base = checkpoint.load(model, verify=True)
    engine = choose(slm["engine"], slm["precision"])
    max_new_tokens = settings["track"]["max_new_tokens"]
    keys = spelled or partial(contenders.spelled, {}, "", track)
    require_context(base.checkpoint, slm["max_prompt_tokens"], max_new_tokens, keys)

    with importing():
        from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base.checkpoint.resolve(), local_files_only=True)
    chat = template.chat(tokenizer, slm.get("tool_dialect", "auto"))
    decoding = Decoding(
        max_new_tokens=max_new_tokens,
        stops=stop_tokens(chat, base.checkpoint),
        pad=tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
    )
    unit = "batch" if slm["precision"] == "int8" else "row"
    writer = _Writer(track, model, adapter.name_of(base), tokenizer, decoding, keys)
    splits: dict[tuple[Path, Path | None], _Split] = {}
    with Journal(journal, SLM) as finished:

        def ready(each: Ask) -> _Work:
            place = (each.data, each.shots)
            if place not in splits:
                splits[place] = _split(each, track, chat, decoding, settings, keys)
            tuned = adapter.load(each.adapter, base) if each.adapter else None
            identity = fingerprint(engine, slm["precision"], base.fingerprint, tuned.digest if tuned else None)
            work = _work(each, splits[place], tuned, identity, settings)
            if unit == "row":
                for row in work.fitting.values():
                    if (found := finished.get(_key(work.run, [row]))) is not None:
                        writer.take(work, [row], [Answer(**found["answers"][0])])
            how = (track, each.data.stem, len(work.rows), len(work.todo), slm["precision"], engine)
            log.info("%s: %s: %d rows, %d of them to be asked, %s on %s", *how)
            return work

        works = [ready(each) for each in asks]
        if any(work.todo for work in works):
            if ahead and engine == "vllm" and _worth(ahead, len(asks)):
                log.info("%s: %s is answered ahead, by this start of the engine", track, ahead.stem)
                works += [ready(Ask(ahead, each.adapter, None, each.shots)) for each in asks]
                if untuned:
                    works += [ready(Ask(data, None, None)) for data in dict.fromkeys([*(a.data for a in asks), ahead])]
            folders = {work.adapter: None for work in works if work.adapter and work.todo}
            with importing():
                loaded = load(engine, base.checkpoint, decoding, settings, list(folders))
            assert loaded.unit == unit
            total, done = sum(len(work.fitting) for work in works), sum(len(work.known) for work in works)
            bar = progress_bar(desc=f"slm {track}", total=total, initial=done)
            for work, batch, answered in _answers(loaded, works, finished):
                writer.take(work, batch, answered)
                bar.update(len(batch))
                done += len(batch)
                if done == total:  # before the engine is taken down, which takes a second of the whole machine
                    writer.write(works)
            bar.close()
            assert done == total, "an engine answers every row"
        else:
            writer.write(works)


def _worth(ahead: Path, adapters: int) -> bool:
    """Whether all adapters answering rows that one of them will be asked is cheaper than a start of the engine."""
    most = MOST_AHEAD // max(1, adapters - 1)
    return sum(1 for _ in itertools.islice(read_examples(ahead), most + 1)) <= most


def _split(
    each: Ask,
    track: str,
    chat: template.Chat,
    decoding: Decoding,
    settings: Object,
    keys: Callable[[str], str],
) -> _Split:
    """The rows of a file as requests, the same for every adapter."""
    verify_rows(each.data)
    before = []
    if each.shots:
        verify_shots(each.shots)
        before = list(read_examples(each.shots))
    examples = list(read_examples(each.data))
    rows, unguided = ask(examples, chat, decoding, settings, before)
    if rows and all(row.request is None for row in rows):
        raise DataError(
            f"{each.data}: the chat template of the slm takes none of the {len(rows)} rows; see above for why"
        )
    if each.out is None:  # whoever writes a file of them says this
        return _Split(rows, [])
    what = "are asked without a guide, as no grammar can be made of their schema"
    limits = before_asking(track, examples, rows, chat, settings, before, keys)
    return _Split(rows, limits + _limit(track, len(rows), unguided, keys("schema_guided"), 1, what))


def _work(each: Ask, split: _Split, tuned: adapter.Adapter | None, identity: str, settings: Object) -> _Work:
    """One ask with its requests."""
    slm, folder = settings[SLM], tuned.folder if tuned else None
    rows = [replace(row, request=row.request and replace(row.request, adapter=folder)) for row in split.rows]
    run = digest([identity, settings["repeat"]]) if settings.get("repeat") else identity
    fitting = {row.digest: row for row in rows if row.request and len(row.request.prompt) <= slm["max_prompt_tokens"]}
    return _Work(each, rows, split.limits, folder, identity, run, fitting, {})


def before_asking(
    track: str,
    examples: Sequence[Example],
    rows: Sequence[Asked],
    chat: template.Chat,
    settings: Mapping[str, Any],
    before: Sequence[Example],
    keys: Callable[[str], str],
) -> list[Limits]:
    """What settings decide before any row is asked: prompts that are too long, right answers that cannot be whole."""
    most, longest = settings["track"]["max_new_tokens"], settings[SLM]["max_prompt_tokens"]
    schema = schema_place(settings["track"].get("prompt", {}))
    gold = []
    for example in examples:
        with contextlib.suppress(template.Refused):
            gold.append(chat.completion(example, schema=schema, shots=before).text)
    sizes = [len(ids) + 1 for ids in chat.tokenizer(gold, add_special_tokens=False)["input_ids"]] if gold else []
    cut = sum(size > most for size in sizes)
    long = sum(row.request is not None and len(row.request.prompt) > longest for row in rows)
    what = f"right answers are longer (up to {max(sizes)}) and can be given by nobody" if cut else ""
    return [
        *_limit(track, len(rows), long, keys("max_prompt_tokens"), longest, "prompts are longer and not asked"),
        *_limit(track, len(rows), cut, keys("max_new_tokens"), most, what),
    ]


def _limit(track: str, rows: int, met: int, key: str, value: int, what: str) -> list[Limits]:
    if not met:
        return []
    log.warning("%s: %s %d: %d of %d %s", track, key, value, met, rows, what)
    return [{"key": key, "value": value, "rows": met, "what": what}]


def require_context(folder: Path, max_prompt_tokens: int, max_new_tokens: int, keys: Callable[[str], str]) -> None:
    """Refuse settings that a model cannot read.

    Raises:
        ConfigError: prompt and answer may be longer than the model's context; says what fits.
    """
    config = read_json(folder / "config.json")
    inner = config.get("text_config")
    context = config.get(
        "max_position_embeddings", inner.get("max_position_embeddings") if isinstance(inner, dict) else None
    )
    if isinstance(context, int) and context < max_prompt_tokens + max_new_tokens:
        fits = context - max_new_tokens
        prompt, answer = keys("max_prompt_tokens"), keys("max_new_tokens")
        remedy = f"set {prompt} to at most {fits}" if fits > 0 else f"lower {answer}"
        raise ConfigError(
            f"{folder}: the model reads {context} tokens (max_position_embeddings of config.json), fewer than "
            f"{prompt} {max_prompt_tokens} and {answer} {max_new_tokens}; {remedy}"
        )


def _answers(slm: Slm, works: Sequence[_Work], finished: Journal) -> Iterator[tuple[_Work, list[Asked], list[Answer]]]:
    if slm.unit == "batch" and len(works) > 1:  # a batch is of one work: an answer depends on its neighbours
        for work in works:
            yield from _answers(slm, [work], finished)
        return
    asked = [(work, row, row.request) for work in works for row in work.todo if row.request is not None]
    by_request = {id(request): (work, row) for work, row, request in asked}

    def found(batch: list[Request]) -> list[Answer] | None:
        """The answers of a whole batch, all of one work."""
        places = [by_request[id(request)] for request in batch]
        known = finished.get(_key(places[0][0].run, [row for _, row in places]))
        return None if known is None else [Answer(**answer) for answer in known["answers"]]

    for positions, answers in slm.answers([request for _, _, request in asked], found):
        batch: dict[int, tuple[_Work, list[Asked], list[Answer]]] = {}
        for place, given in zip(positions, answers, strict=True):
            work, row, _ = asked[place]
            _, rows, written = batch.setdefault(id(work), (work, [], []))
            rows.append(row)
            written.append(given)
        units = [
            (work, unit, parts)
            for work, rows, written in batch.values()
            for unit, parts in (
                [(rows, written)] if slm.unit == "batch" else [([r], [a]) for r, a in zip(rows, written, strict=True)]
            )
        ]
        finished.put_many(
            (_key(work.run, unit), {"answers": [_plain(answer) for answer in parts]})
            for work, unit, parts in units
            if all(answer.tokens is not None for answer in parts)  # out of memory may be over at the next run
        )
        yield from batch.values()


def _plain(answer: Answer) -> Object:
    return {"tokens": answer.tokens, "latency_s": answer.latency_s}


def _key(run: str, rows: list[Asked]) -> str:
    return digest([run, [row.digest for row in rows]])


def ask(
    examples: Sequence[Example],
    chat: template.Chat,
    decoding: Decoding,
    settings: Mapping[str, Any],
    before: Sequence[Example] = (),
) -> tuple[list[Asked], int]:
    """The examples as requests to the model without an adapter, in order.

    Also how many are asked without the guide that the settings want.
    """
    slm, track = settings[SLM], settings["track"]
    schema = schema_place(track.get("prompt", {}))
    texts: list[str | None] = []
    for example in examples:
        try:
            texts.append(chat.prompt(example, schema=schema, shots=before))
        except template.Refused as error:
            _say(error, texts.count(None))
            texts.append(None)
    asked = [text for text in texts if text is not None]
    ids = iter(chat.tokenizer(asked, add_special_tokens=False)["input_ids"] if asked else [])
    guides = Guides(chat) if slm.get("schema_guided", False) else None
    unguided = 0
    how = {"greedy": True, "max_new_tokens": decoding.max_new_tokens, "stops": list(decoding.stops)}
    rows = []
    for example, text in zip(examples, texts, strict=True):
        if text is None:
            rows.append(Asked(example.id, None, digest({"refused": example.id})))
            continue
        guide = None
        if guides is not None:
            try:
                guide = guides.guide(example)
            except Unguided as error:
                why = f"row {example.id!r}: no grammar can be made of its schema ({error}); it is asked without"
                _say(why, unguided)
                unguided += 1
        key = digest({"prompt": text, "decoding": how, "schema": guide})
        rows.append(Asked(example.id, Request(prompt=next(ids), guide=guide), key))
    return rows, unguided


def _say(what: object, before: int) -> None:
    log.log(logging.WARNING if before < SAID else logging.DEBUG, "%s", what)


def prediction(
    row: Asked, answer: Answer | None, tokenizer: Any, decoding: Decoding, model: str, identity: str
) -> Prediction:
    """What goes into the file for one row; `answer` is None where it was not asked (refused, or too long).

    `raw` is what came back without the token that ended it, special tokens (`[TOOL_CALLS]`) and all.
    """
    same: Object = {"id": row.id, "model": model, "fingerprint": identity, "request": row.digest}
    if row.request is None:
        return Prediction(outcome="error", finish_reason="template_refused", **same)
    usage = {"prompt_tokens": len(row.request.prompt), "completion_tokens": 0}
    if answer is None:
        return Prediction(outcome="length", finish_reason="prompt_too_long", usage=usage, **same)
    if answer.tokens is None:
        return Prediction(outcome="error", finish_reason="out_of_memory", usage=usage, **same)
    stopped = bool(answer.tokens) and answer.tokens[-1] in decoding.stops
    written = answer.tokens[:-1] if stopped else answer.tokens
    raw = tokenizer.decode(written, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return Prediction(
        outcome="length" if not stopped else "ok" if raw.strip() else "empty",
        raw=raw,
        finish_reason="stop" if stopped else "length",
        usage=usage | {"completion_tokens": len(answer.tokens)},
        latency_s=answer.latency_s,
        **same,
    )


def stop_tokens(chat: template.Chat, folder: Path) -> tuple[int, ...]:
    """Every token that ends an answer: the checkpoint's own list, the tokenizer's end, and the ends of a turn.

    Raises:
        DataError: there is none, so no answer would ever end.
    """
    from transformers import GenerationConfig

    stops = {chat.tokenizer.eos_token_id, *chat.stops()}
    if (folder / "generation_config.json").is_file():
        listed = GenerationConfig.from_pretrained(folder.resolve(), local_files_only=True).eos_token_id
        stops |= set(listed) if isinstance(listed, list) else {listed}
    stops.discard(None)
    if not stops:
        raise DataError(f"{folder}: neither tokenizer nor generation_config.json names an end token")
    return tuple(sorted(stops))


def fingerprint(engine: Engine, precision: str, base: str, adapter_digest: str | None) -> str:
    """Names what computes an answer: engine and precision in words, then a digest with base and adapter."""
    return f"{engine}-{precision}-{digest([engine, precision, base, adapter_digest])[:16]}"


def load(engine: Engine, folder: Path, decoding: Decoding, settings: Object, adapters: Sequence[Path]) -> Slm:
    """The engine with the model and its adapters in memory."""
    slm = settings[SLM]
    if engine == "vllm":
        from fledgling.slm.vllm_engine import VllmSlm, visible_cards

        return VllmSlm(
            folder,
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
        folder,
        precision=slm["precision"],
        batch_size=slm["batch_size"],
        decoding=decoding,
        adapters=adapters,
        repeat=settings.get("repeat", 0),
    )
