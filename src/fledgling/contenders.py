"""Contenders: who answers a track's rows, as data, cheapest first; and every job of the graph that this means."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal

from fledgling.artefacts import Rung
from fledgling.config import SLM, Config

Shots = int | Literal["auto"]
TEACHER = "teacher"
FLOOR = "floor-"
# Keys of a contender's block that say who it is; every other goes over the section `slm`, or over the track's.
IDENTITY = ("label", "model", "adapter", "after", "shots")
OF_TRACK = ("max_new_tokens", "prompt")
LABELS = {
    "slm": "the untuned small model",
    "guided": "the untuned small model within the schema",
    "fewshot": "the untuned small model with examples",
    "fewshot_guided": "the untuned small model with examples, within the schema",
    "tuned": "the tuned small model",
    "tuned_guided": "the tuned small model within the schema",
}
ASKING = ("ask", "buy")  # rules that ask the teacher: rows at once, and the test rows in looks
ANSWERING = ("answer", "answer_again", "answer_candidates")  # rules that ask the slm
CONDITION = "unless a cheaper contender promises to pass on val"


@dataclass(frozen=True, slots=True)
class Contender:
    """One block of `contenders`: a checkpoint, perhaps under an adapter, and what it comes after.

    `after` names the contender that it must not be worse than (what training started from, say). `shots` is how many
    answered rows of train are put before each row; AUTO lets val choose, 0 is none.
    """

    name: str
    label: str
    model: str
    adapter: str | None
    after: str | None
    shots: Shots = 0

    def rung(self) -> Rung:
        """The same as the verdict lists it."""
        return {
            "name": self.name,
            "label": self.label,
            "model": self.model,
            "adapter": self.adapter,
            "after": self.after,
        }


def ladder(config: Config) -> list[Contender]:
    """All configured contenders, cheapest first, as they stand in the configuration."""
    return [of(config, name) for name in config["contenders"]]


def allowed(config: Config, track: str) -> list[Contender]:
    """The contenders that a track's `finetune` lets be built, cheapest first: under `never` those without an adapter."""
    never = config["tracks"][track]["finetune"] == "never"
    return [one for one in ladder(config) if one.adapter is None or not never]


def asks_val(config: Config, track: str) -> bool:
    """Whether val says how far up the ladder is built: not where one rung is all there is, nor where all are built."""
    return config["tracks"][track]["finetune"] != "always" and len(allowed(config, track)) > 1


def in_looks(config: Config) -> bool:
    """Whether the teacher's answers to test are bought in looks."""
    return config["teacher"].get("looks") is not None


def gated(config: Config, track: str) -> list[Contender]:
    """What the gate can judge: what needs no training, up to the first that does unless all are built anyway."""
    rungs = allowed(config, track)
    if config["tracks"][track]["finetune"] == "always":
        return [one for one in rungs if one.adapter is None]
    return list(takewhile(lambda one: one.adapter is None, rungs))


def of(config: Config, name: str) -> Contender:
    """The contender of a name, or the candidate `{adapter}.{n}` of a training as one."""
    if candidate := candidate_of(config, name):
        adapter, number = candidate
        return Contender(name, f"candidate {number} of {adapter}", adapter_model(config, adapter), adapter, None)
    block = config["contenders"][name]
    adapter = block.get("adapter")
    model = block.get("model") or (adapter_model(config, adapter) if adapter else SLM)
    label = block.get("label") or LABELS.get(name, name)
    return Contender(name, label, model, adapter, block.get("after"), block.get("shots", 0))


def is_local(config: Config, name: str) -> bool:
    """Whether a name is a contender's or a candidate's, and not the teacher's or a floor's."""
    return name in config["contenders"] or candidate_of(config, name) is not None


def floor(name: str) -> str:
    """The name under which a floor is scored."""
    return f"{FLOOR}{name}"


def adapter_model(config: Config, adapter: str) -> str:
    """The model that an adapter is trained on."""
    return str(config["adapters"][adapter].get("model", SLM))


def recipe(config: Config, adapter: str, track: str) -> dict[str, object]:
    """The recipe of one adapter of one track: `recipe`, the adapter's keys over it, the track's over both."""
    own = {key: value for key, value in config["adapters"][adapter].items() if key != "model"}
    return {**config["recipe"], **own, **config["tracks"][track].get("recipe", {})}


def candidates(config: Config, adapter: str) -> list[str]:
    """The candidates that a training of an adapter keeps: contenders that answer val, the last one the last."""
    return [f"{adapter}.{number}" for number in range(1, config["recipe"].get("candidates", 1) + 1)]


def candidate_of(config: Config, name: str) -> tuple[str, int] | None:
    """(adapter, number) of a candidate; None where the name is not one's."""
    adapter, dot, number = name.rpartition(".")
    return (adapter, int(number)) if dot and adapter in config["adapters"] and number.isdigit() else None


def answering(config: Config, name: str) -> dict[str, object]:
    """The section `slm` as it is for one contender: its own keys over it. A candidate answers as its contender will."""
    return {**config[SLM], **_own(config, name, track=False)}


def gpus_for_shots(config: Config, name: str) -> int:
    """GPUs that choosing a contender's shots claims: as its answers do where val chooses, none where a number is given."""
    return int(str(answering(config, name).get("gpus") or 0)) if of(config, name).shots == "auto" else 0


def limits(config: Config, name: str, track: str) -> dict[str, object]:
    """The keys of a track that a contender may set for itself, as they are for it."""
    block = config["tracks"][track]
    return {key: block[key] for key in OF_TRACK if key in block} | _own(config, name, track=True, of_track=block)


def answers_as(config: Config, name: str) -> str:
    """The contender as which a candidate of its adapter answers; any other name is its own.

    A candidate of an adapter that no contender has is its own, too.
    """
    candidate = candidate_of(config, name)
    users = (one.name for one in ladder(config) if candidate and one.adapter == candidate[0])
    return next(users, name)


def untuned(config: Config) -> dict[str, list[str]]:
    """{track: adapters without which their model answers, too, as a contender that differs from theirs in nothing else}."""

    def how(name: str, track: str) -> tuple[object, ...]:
        return answering(config, name), limits(config, name, track)

    plain = [one for one in ladder(config) if not one.adapter and not one.shots]
    return {
        track: [
            adapter
            for adapter in config["adapters"]
            if any(
                one.model == adapter_model(config, adapter) and how(one.name, track) == how(f"{adapter}.1", track)
                for one in plain
            )
        ]
        for track in config["tracks"]
    }


def spelled(own: Mapping[str, Mapping[str, str]], name: str, track: str, key: str) -> str:
    """How the configuration spells a key of `slm`, or of a track, that a contender answers with: where it is set.

    `own` is what config.spelled says of all contenders.
    """
    keys = own.get(name) or own.get(f"{name.rpartition('.')[0]}.") or {}
    return keys.get(key) or (f"tracks.{track}.{key}" if key in OF_TRACK else f"{SLM}.{key}")


def _own(config: Config, name: str, *, track: bool, of_track: Config | None = None) -> dict[str, object]:
    block = config["contenders"].get(answers_as(config, name), {})
    own = {key: value for key, value in block.items() if key not in IDENTITY and (key in OF_TRACK) == track}
    if "prompt" in own and of_track is not None:
        own["prompt"] = {**of_track.get("prompt", {}), **own["prompt"]}
    return own


@dataclass(frozen=True, slots=True)
class Job:
    """One job of the graph that asks somebody or needs a GPU.

    `contender` answers `split`, or has its shots chosen on it; a training has its adapter instead and no split.
    `condition` says when it runs ("": always), `repeat` is 1 for a second run.
    """

    rule: Literal["ask", "answer", "train", "choose_shots"]
    track: str
    contender: str
    split: Literal["val", "test"] | None = "test"
    repeat: int = 0
    condition: str = ""


def starts(config: Config, found: Iterable[Job], *, ahead: bool) -> list[list[Job]]:
    """These jobs by the start of an engine that does them, at most: the first of each group starts it.

    A contender answers val and test in one, and so do all candidates of a training val; `ahead`: test as well, which
    leaves none to the contender that answers as they do (fledgling.slm.answer).
    """
    shared: dict[tuple[object, ...], list[Job]] = {}
    for job in found:
        if job.rule == "choose_shots":
            shared[(job.track, job.contender, job.rule)] = [job]
        elif job.rule == "answer":
            apart = not ahead and candidate_of(config, job.contender) is not None
            shared.setdefault((job.track, answers_as(config, job.contender), job.repeat, apart), []).append(job)
    return list(shared.values())


def jobs(config: Config, track: str) -> list[Job]:
    """Every job of a track that costs money or may need a GPU, in running order: the upper bound of what runs."""
    on_val, twice = asks_val(config, track), config.get("repeats", [])
    found = [Job("ask", track, TEACHER, "val")] if on_val else []
    found.append(Job("ask", track, TEACHER))
    trained: set[str] = set()
    rungs = allowed(config, track)
    for one in rungs:
        condition = CONDITION if on_val and one is not rungs[0] else ""
        if one.adapter and one.adapter not in trained:
            trained.add(one.adapter)
            found.append(Job("train", track, one.adapter, None, condition=condition))
            kept = candidates(config, one.adapter)
            found += [Job("answer", track, each, "val", condition=condition) for each in kept if len(kept) > 1]
        if one.shots:
            found.append(Job("choose_shots", track, one.name, "val", condition=condition))
        found += [Job("answer", track, one.name, split, condition=condition) for split in ("val", "test")]
    if TEACHER in twice:
        found.append(Job("ask", track, TEACHER, repeat=1))
    for one in rungs:
        if one.name in twice:
            condition = CONDITION if on_val and one is not rungs[0] else ""
            found.append(Job("answer", track, one.name, repeat=1, condition=condition))
    return found
