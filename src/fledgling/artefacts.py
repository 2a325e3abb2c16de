"""The files under results/: one typed, versioned definition each, through which every reader and writer goes.

docs/files.md and the JSON Schemas in src/fledgling/schemas are generated from here (scripts/describe_files.py).
A JSON file names its format and, under `made_from`, the sha256 of every file it was made from, and ends with its own
seal; a JSON Lines file has a JSON file beside it (or, for data, the datasheet) that holds its sha256. Rates, gaps and
bounds are shares of 1.
"""

import functools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NotRequired, TypeVar, cast

from typing_extensions import TypeAliasType, TypedDict

from fledgling import seals
from fledgling.errors import DataError
from fledgling.files import parse_json, sha256_file, write_text

Json = TypeAliasType("Json", "bool | int | float | str | list[Json] | dict[str, Json] | None")
JsonObject = dict[str, Json]
FilePath = str | os.PathLike[str]
MadeFrom = dict[str, str]
SCHEMAS = Path(__file__).parent / "schemas"
F = TypeVar("F")


class Sealed(TypedDict):
    """A JSON file that vouches for itself."""

    seal: NotRequired[str]
    """sha256 of all other bytes of the file; `write` adds it as the last key, `read` checks it and takes it out."""


class FileDigest(TypedDict):
    """One file of a folder."""

    path: str
    """Name in the folder."""
    bytes: int
    """Size."""
    sha256: str
    """sha256 (hex) of its bytes."""


class Model(Sealed):
    """results/models/{model}/manifest.json: a checkpoint, where it lies and what it is known by."""

    format: Literal["fledgling/model/1"]
    source: Literal["embedded", "hub", "path"]
    """Where it came from."""
    repo_id: str | None
    """Repository on the Hub."""
    revision: str | None
    """Commit of that repository."""
    files: list[FileDigest]
    """Every file that belongs to it."""
    architecture: str
    """Class that transformers loads."""
    parameters: int
    """Numbers in all tensors."""
    chat_template_sha256: str | None
    """sha256 of the chat template's text; null where there is none."""
    fingerprint: str
    """What adapters are bound to: sha256 over configuration, tokenizer and the tensors outside the middle layers."""
    generated: bool
    """Whether Fledgling trained it itself (the embedded checkpoint)."""
    path: str
    """Folder of the checkpoint, relative to the manifest where it lies beside it."""


class Answer(TypedDict):
    """One call that is right, or one that a model made."""

    name: str
    arguments: Json


class Example(TypedDict):
    """results/data/{track}/{split}.jsonl, a line: what is asked, and what is right."""

    id: str
    """Unique in the track."""
    group: str
    """Source record; rows that share it stand in one split and are resampled together."""
    messages: list[JsonObject]
    """Chat turns in OpenAI's form, up to the answer."""
    tools: NotRequired[list[JsonObject]]
    """Tool definitions in OpenAI's form."""
    schema: NotRequired[Json]
    """JSON Schema of the answer (structured)."""
    answer: Json
    """The right answer: JSON (structured), or a list of calls (toolcall; empty: no call is right, null: any call is)."""
    allowed: NotRequired[list[JsonObject]]
    """Per call the accepted values of each argument (BFCL's form; "" in a list: may be left out)."""
    category: NotRequired[str]
    """A slice of the report."""
    weight: NotRequired[float]
    """Requests that the row stands for; 1 where it is left out."""


class Part(TypedDict):
    """One file of a source."""

    name: str
    digest: str | None
    """sha256 of its bytes, or what a source without files is known by."""


class Listed(TypedDict):
    """Rows that something was found in."""

    rows: int
    first: list[str]
    """The first of them, with file, line and what was found."""


class Sourced(TypedDict):
    """What one source of rows was and what became of its rows."""

    settings: JsonObject
    """Its block in the configuration."""
    parts: list[Part]
    formats: dict[str, int]
    """Rows by format."""
    names: dict[str, int]
    """Rows by the data set that they name."""
    rows: dict[str, int]
    """read, rejected, duplicates, beyond_limit, used; not_asked_for where a source chooses among the calls of a log."""
    not_asked_for: NotRequired[dict[str, int]]
    """Calls of a log that were not taken, by the key that they do not fit, or by what else they are."""
    rejected: dict[str, Listed]
    """By reason."""
    copies: list[str]
    """The first rows that another one stands for."""
    without_tools_or_schema: int
    """Rows without tools of their own (toolcall) or a schema (structured)."""
    nulls_left_out: int
    """Gold arguments that are null and that the tool does not have: a table gave them to every call."""
    gold_outside_tool_schema: Listed
    """Rows whose gold arguments their own tool refuses."""
    ignored_keys: dict[str, int]
    """Keys of rows that nothing reads."""


class Split(TypedDict):
    """One split of a track."""

    rows: int
    sha256: str
    """sha256 of its JSON Lines file."""
    weight: float
    """Requests that the rows stand for."""
    groups: int
    """Groups, which are what is independent."""
    near_copies: int
    """Rows that got the group of another one, which says the same or nearly."""
    categories: dict[str, int]
    calls: NotRequired[dict[str, int]]
    """Rows by their number of gold calls (toolcall)."""
    schemas: NotRequired[dict[str, int]]
    """Rows by schema (structured)."""
    request_characters: dict[str, int | None]
    """Quantiles of the length of the request."""


class Leaks(TypedDict):
    """Links between splits that were found and cut."""

    near_duplicate: float | None
    """Similarity from which two requests count as the same; null: not looked for."""
    links: dict[str, int]
    """Links by kind."""
    dropped: dict[str, int]
    """Rows left out, by split."""
    near_duplicate_ratio: float | None
    """Share of the test rows with a near-duplicate before cutting."""
    pairs: list[str]
    """The first of them."""


class Unwinnable(TypedDict):
    """Rows that were not taken, since not even their own answer scores 1: nobody could get them right."""

    rows: int
    reasons: dict[str, int]
    first: list[str]
    """The first of them, with file, line and reason."""


class Able(TypedDict):
    """What the test rows can show: how often a contender as good as the teacher passes."""

    rows: int
    counts_as: int
    """Independent rows that they are worth, groups at their worst."""
    chances: dict[str, float]
    """By the share of rows on which the two differ."""
    safe_rows: int | None
    """Rows that would make it safe; null: no realistic number."""
    low: bool
    """Whether it fails more often than it passes."""
    sentence: str


class Prospect(Able):
    """The same for a prepared split, before anybody is asked; by the decision as it stood when the rows were prepared."""

    margin: float
    alpha: float
    power: float
    """The chance that `safe_rows` and `safe_source` are for."""
    safe_source: int | None
    """Rows of the sources that would give as many test rows; null: no realistic number."""


class Traced(TypedDict):
    """Rows that are logged calls of a hosted model: what their answers are, and what the logs say of them."""

    gold: Literal["reply", "feedback"]
    """The answer of such a row is the logged reply (`feedback`: where people approved it): scores on it are agreement."""
    calls: int
    """Logged calls that were taken, copies among them."""
    models: dict[str, int]
    """Calls by the model that answered."""
    sampled: int
    """Calls with a temperature above 0: asked again, such a model differs from itself."""
    temperature_unknown: int
    repeated: int
    """Calls whose request had been made before, word by word; they are in one group with it."""
    repeated_share: float
    """`repeated` as a share of `calls`."""
    first: str | None
    """When the first call was made (UTC)."""
    last: str | None
    test_from: str | None
    """Calls from here on are the test; null: a hash of the group decides."""
    later_turns: int
    """Rows that are a later turn of a trajectory: their prompt holds what the model had said, and what tools answered."""
    trajectories: int
    """Groups that such rows are in."""
    tool_errors: int
    """Rows one of whose calls a tool answered with an error."""
    prompt_tokens: int
    """About how many tokens all prompts have."""
    prompt_tokens_repeated: int
    """How many of these an earlier prompt of the same trajectory has too."""
    redacted: int
    """Texts that `redact` changed."""


class Datasheet(Sealed):
    """results/data/{track}/datasheet.json: what became of every row of the sources; seals the three splits."""

    format: Literal["fledgling/datasheet/1"]
    track: str
    kind: Literal["structured", "toolcall"]
    generated: bool
    """Whether Fledgling generated rows."""
    summary: str
    """What became of all rows, in one line."""
    split_key: str
    sources: list[Sourced]
    unwinnable: Unwinnable
    splits: dict[str, Split]
    conflicting_answers: int
    """Rows whose request occurs before them with another answer."""
    conflicts: list[str]
    """The first of them."""
    traces: NotRequired[Traced]
    """Where rows come from logs of production."""
    leaks: Leaks
    power: NotRequired[Prospect]
    """What the test rows can show; absent from files of before 0.1."""


class Prediction(TypedDict):
    """results/predictions/{track}/{contender}.jsonl, a line: one contender's answer to one row, raw text kept."""

    id: str
    outcome: Literal["ok", "empty", "length", "content_filter", "refusal", "error"]
    raw: str | None
    """What came back, untouched."""
    tool_calls: list[JsonObject] | None
    """The provider's own structured calls; null where the model answers in text."""
    finish_reason: str | None
    usage: dict[str, int]
    """prompt_tokens, completion_tokens."""
    latency_s: float | None
    """Seconds."""
    model: str | None
    """What says to have answered."""
    fingerprint: str | None
    """What computed it."""
    request: str | None
    """Digest of what was asked."""
    reason: NotRequired[str]
    """Why the outcome is not ok, in the provider's words where there are any."""
    in_flight: NotRequired[int]
    """Calls that ran when this one was sent, itself included; the latency holds what they did to each other."""


class Limits(TypedDict):
    """Rows on which a setting of ours decided."""

    key: str
    """Key of the configuration."""
    value: int
    rows: int
    what: str
    """What happened to them, as a clause."""


class AtLook(TypedDict):
    """One look at the teacher's rows: how many there were, and what became of each contender."""

    rows: int
    level: float
    """Of the gate at this look, for all of alpha."""
    states: dict[str, Literal["passed", "futile", "open"]]
    """By contender: it can be deployed, it is given up, or neither."""
    reason: str


class Bought(TypedDict):
    """How the teacher's answers to test were bought in looks, and why that ended."""

    key: str
    """Of the hash that orders the groups."""
    sample: list[str]
    """What stands for the rows of the split, to know it again after rows were added: the smallest digests of ids."""
    of: int
    """Rows of the split."""
    rows: int
    """Rows that were bought, the first of that order."""
    alpha: float
    planned: list[int]
    """Rows at which looks were planned."""
    looks: list[AtLook]
    level: float
    """Of the gate at the last of them."""
    stopped: str


class Predictions(Sealed):
    """results/predictions/{track}/{contender}.json: seals the predictions beside it."""

    format: Literal["fledgling/predictions/1"]
    made_from: MadeFrom
    rows: int
    outcomes: dict[str, int]
    sha256: str
    """sha256 of the JSON Lines file."""
    limits: list[Limits]
    """Settings that decided rows."""
    given_up: int
    """Rows without an answer that an explicit setting gave up."""
    logged: NotRequired[int]
    """Rows whose answer is a reply of a log that was taken over (`fledgling journal take-over`), where there are such."""
    bought: NotRequired[Bought]
    """Where `teacher.looks` is on: of the teacher, which rows of test were asked, and why no more."""


class Rate(TypedDict):
    """One metric over all rows of a split."""

    value: float
    """By weight."""
    n: int
    """Rows."""
    k: int | None
    """Rows that count fully, weights aside; null for means of fractions."""
    low: float
    high: float
    level: float
    """Two-sided confidence of [low, high]."""
    method: str
    """wilson or bootstrap."""


class Cost(TypedDict):
    """Money; amount null is unknown, never 0."""

    amount: float | None
    currency: str | None
    estimated: bool
    """Whether rows without usage were counted as the average of the others."""


class SliceRate(TypedDict):
    """A rate on one slice, with a two-sided 95 % interval."""

    n: int
    value: float
    """By weight."""
    low: float
    high: float


class Metrics(Sealed):
    """results/metrics/{track}/{contender}.json: what one contender scored on one split; seals the rows beside it."""

    format: Literal["fledgling/metrics/1"]
    made_from: MadeFrom
    kind: Literal["structured", "toolcall"]
    n: int
    """Rows of the split; with their weights the denominator of every rate."""
    weight: float
    """Requests that the rows stand for; n where no row has a weight."""
    metrics: dict[str, Rate]
    """By the strict reading."""
    lenient: dict[str, dict[str, float]]
    """By the lenient reading: how much of a gap is format."""
    outcomes: dict[str, int]
    reasons: dict[str, int]
    """Why rows are not right."""
    slices: dict[str, dict[str, SliceRate]]
    """The first core metric by slice."""
    tokens: dict[str, int]
    cost: Cost
    latency_s: dict[str, float] | None
    """mean, p50, p95; null where none was measured."""
    models: dict[str, int]
    fingerprints: dict[str, int]
    data_sha256: str
    """sha256 of the rows that were answered."""
    predictions_sha256: str
    rows_sha256: str | None
    """sha256 of the scored rows beside it; null where none were written."""


class ScoredRow(TypedDict):
    """results/metrics/{track}/{contender}.jsonl, a line: what one answer is worth."""

    id: str
    group: str
    outcome: str
    """As predicted, or missing."""
    scores: dict[str, float]
    lenient: dict[str, float]
    reason: str | None
    parsed: Json
    slice: dict[str, str]
    usage: dict[str, int]
    latency_s: float | None
    model: str | None
    fingerprint: str | None
    weight: NotRequired[float]
    """Requests that the row stands for; 1 where it is left out."""


class Span(TypedDict):
    """A gap (teacher − contender, in shares of 1) with a one-sided bound at level alpha on either side."""

    gap: float
    low: float
    high: float


class GapOnMetric(Span):
    """One metric of a comparison."""

    core: bool
    """Whether it has to hold."""
    n: int
    teacher: float
    contender: float
    non_inferior: bool
    """Whether the gap is shown to be inside the margin."""
    worse_shown: bool
    """Whether the gap is shown to be above the margin."""
    method: str
    counts: dict[str, int]
    """both, teacher_only, contender_only, neither."""
    discordance: float
    design_effect: float
    mcnemar_p: float | None
    inferiority_p: float | None
    rows_needed: int | None
    """Rows at which a contender with this gap passes; null: none suffice."""
    rows_needed_if_equal: int
    """Rows at which an equally good contender passes."""


class AgainstFloor(Span):
    """One metric against an answer that needs no model."""

    floor: float
    contender: float
    beaten: bool


class Answered(TypedDict):
    """Rows that were answered at all."""

    teacher: int
    contender: int
    both: int


class Comparison(TypedDict):
    """One contender against the teacher, on the same rows."""

    contender: str
    finding: Literal["as_good", "worse", "unclear", "invalid"]
    reasons: list[str]
    n: int
    requests: NotRequired[int]
    """Requests that the rows stand for, where they have weights; then the counts and `answered` are of requests."""
    groups: NotRequired[int]
    rows_needed: int | None
    rows_missing: int | None
    answered: Answered | None
    coverage: float | None
    """Share of rows that both answered."""
    outcomes: dict[str, dict[str, int]]
    models: dict[str, dict[str, int]]
    fingerprints: dict[str, dict[str, int]]
    metrics: dict[str, GapOnMetric]
    floors: dict[str, dict[str, AgainstFloor]]
    teacher_floors: dict[str, dict[str, AgainstFloor]]
    level: NotRequired[float]
    """The level at which it was tested, and at which every bound here is one-sided, where `decision.family` sets it."""
    p: NotRequired[float]
    """p of "not as good as the teacher", the largest over core metrics and floors, where `decision.family` needs it."""


class Rung(TypedDict):
    """One contender of the ladder."""

    name: str
    label: str
    """What people call it."""
    model: str
    """Its checkpoint, by name."""
    adapter: str | None
    """Its adapter, by name; null: none."""
    after: str | None
    """The contender that it must not be worse than."""


class Ruled(Sealed):
    """What a track is held to, as both decisions repeat it."""

    track: str
    kind: Literal["structured", "toolcall"]
    title: str
    simulated: bool
    """Whether teacher, checkpoint or rows are made up."""
    policy: Literal["auto", "always", "never"]
    margin: float
    alpha: float
    power: float
    min_coverage: float
    core: list[str]
    gold: NotRequired[Literal["reply", "feedback"]]
    """Where answers are logged replies (`feedback`: approved ones): scores are agreement with them, and no more."""


class HeldTo(TypedDict):
    """One contender against its level."""

    p: float | None
    """null: not built."""
    level: float | None
    """null: not tested."""
    passed: bool
    why: str
    """Why it was not tested, or did not pass."""


class Family(TypedDict):
    """How one error rate was shared over all contenders."""

    name: Literal["sequence", "holm", "each"]
    promise: str
    """What holds for all of them together, in a sentence."""
    nominee: str | None
    """Where the sequence began."""
    stopped: str
    """Why it ended where it did."""
    rungs: dict[str, HeldTo]


class OnVal(TypedDict):
    """One core metric of a contender against the teacher, on val."""

    teacher: float
    contender: float
    gap: float
    discordance: float
    rows_needed: int | None
    """Test rows at which it would pass with chance `power`; null: no number would do."""


class Trial(Sealed):
    """results/ladder/{track}/{contender}.json: what val says of one contender, and so whether a dearer one is built."""

    format: Literal["fledgling/ladder/1"]
    made_from: MadeFrom
    key: str
    """Digest of every setting and all code that this answer rests on."""
    track: str
    contender: str
    promising: bool
    """Whether it promises to pass on test: as many rows as it needs are there, on every core metric."""
    goes_on: bool
    """Whether the next contender is built; false too where the numbers of val cannot be trusted."""
    reason: str
    rows: int
    """Rows of val."""
    test_rows: int
    level: float
    """The level at which test would hold it to account."""
    rows_needed: int | None
    """Test rows that it needs; null: no number would do, or it is not known."""
    metrics: dict[str, OnVal]


class Tried(TypedDict):
    """One choice of shots, and what it reached on val."""

    k: int
    set: int
    metrics: dict[str, float]
    prompt_tokens: float
    """Mean of a row, shots included."""


class Shots(Sealed):
    """results/shots/{track}/{contender}.json: how the answered rows beside it were chosen."""

    format: Literal["fledgling/shots/1"]
    made_from: MadeFrom
    track: str
    contender: str
    asked: int | Literal["auto"]
    """What the configuration says."""
    k: int
    """How many there are; fewer than asked where rows of val would not fit."""
    set: int
    """Which of the sets that a hash draws."""
    reason: str
    sha256: str
    """sha256 of the rows."""
    tried: list[Tried]


class Gate(Ruled):
    """results/compare/{track}.json: the gate, before anything is trained."""

    format: Literal["fledgling/compare/2"]
    made_from: MadeFrom
    decision: Literal["swap", "fine_tune", "inconclusive", "invalid"]
    fine_tune: Literal[0, 1]
    """Whether adapters are trained: the decision under the track's policy."""
    statement: str
    ladder: list[Rung]
    """The contenders that need no training, cheapest first."""
    decisive: str
    """The contender that the decision rests on."""
    split_power: NotRequired[Able]
    next: NotRequired[str | None]
    """The contender that is built next: val promised none of these, or test did not confirm the one that it did."""
    key: NotRequired[str]
    """Digest of every setting and all code that this answer rests on."""
    comparisons: dict[str, Comparison]


class RegressionOnMetric(Span):
    """One metric before and after."""

    before: float
    after: float
    method: str
    counts: dict[str, int]
    worse: bool
    non_inferior: bool


class Regression(TypedDict):
    """A contender against the one that it comes after."""

    after: str
    status: Literal["none", "unclear", "worse"]
    reasons: list[str]
    metrics: dict[str, RegressionOnMetric]


class Flips(TypedDict):
    """How far a second run of one contender differs, on one metric."""

    flips: int
    share: float
    low: float
    high: float
    mean_change: float


class Noise(TypedDict):
    """A contender that was run twice."""

    n: int
    metrics: dict[str, Flips]
    refused: bool
    reason: str


class Numbers(TypedDict):
    """One core metric under another treatment of the rows."""

    teacher: float
    contender: float
    gap: float
    low: float
    high: float


class Otherwise(TypedDict):
    """One contender under another treatment of the rows."""

    finding: str
    metrics: dict[str, Numbers]


class Scenario(TypedDict):
    """The verdict under another treatment of the rows."""

    meaning: str
    deploy: str
    changes: bool
    comparisons: dict[str, Otherwise]


class Sensitivity(TypedDict):
    """The verdict under other treatments of rows that were filtered or failed."""

    rows: dict[str, int]
    scenarios: dict[str, Scenario]
    changes: bool


class Interval(TypedDict):
    """A rate with a two-sided 95 % interval."""

    value: float
    low: float
    high: float


class SliceGap(Span):
    """One contender on one slice."""

    value: float
    p: float
    p_holm: float
    differs: bool


class Slice(TypedDict):
    """One slice of the rows, on the first core metric."""

    n: int
    teacher: Interval
    contenders: dict[str, SliceGap]


class Suspect(TypedDict):
    """A row on which teacher and contenders agree against gold."""

    id: str
    contenders: list[str]
    """Who gave the teacher's answer."""


class IfWrong(TypedDict):
    """The verdict if every suspected label were wrong."""

    rows: int
    deploy: str
    changes: bool
    comparisons: dict[str, Otherwise]


class Looks(TypedDict):
    """How often these test rows were used for a verdict."""

    number: int
    false_swap_at_most: float
    """Chance that any of these verdicts swaps wrongly."""


class TriedOnVal(TypedDict):
    """What val said of a contender, on the metric that it is furthest behind on."""

    metric: str
    gap: float
    rows: int
    promising: bool
    rows_needed: int | None
    reason: str


class Step(TypedDict):
    """One contender of the ladder, built or not."""

    label: str
    built: bool
    val: TriedOnVal | None
    """null: val was not asked."""
    test: Span | None
    """The first core metric on test; null: not built, or rows could not be paired."""
    cost_per_1000: float | None
    """Price of 1,000 answers on a machine that is never idle; null: unknown, which is never 0."""
    currency: str | None
    why: str
    """What became of it."""


class Climb(TypedDict):
    """How far up the ladder contenders were built, and why no further."""

    nominee: str
    """The dearest that was built before test was opened."""
    further: str | None
    """The one that was built because test did not confirm the nominee."""
    stopped: str
    rungs: dict[str, Step]
    """All configured contenders, cheapest first."""


class Verdict(Ruled):
    """results/verdict/{track}.json: what to deploy, why, and how far that answer carries."""

    format: Literal["fledgling/verdict/2"]
    made_from: MadeFrom
    deploy: str
    """A contender's name, "teacher", or "inconclusive"."""
    statement: str
    reasons: list[str]
    ladder: list[Rung]
    """The contenders that were judged, cheapest first."""
    decisive: str
    """The contender whose comparison the verdict rests on."""
    n: int
    rows_needed: int | None
    rows_missing: int | None
    comparisons: dict[str, Comparison]
    regressions: dict[str, Regression]
    """By contender with `after`."""
    noise: dict[str, Noise]
    sensitivity: Sensitivity | None
    slices: dict[str, dict[str, Slice]]
    agreement: Interval | None
    """How often the teacher agrees with gold."""
    suspected_label_errors: list[Suspect]
    if_labels_are_wrong: IfWrong | None
    caveats: list[str]
    """What a reader should know beside it, a sentence each."""
    looks: Looks | None
    test_sha256: str | None
    family: NotRequired[Family | None]
    """null where each contender stands alone."""
    climb: NotRequired[Climb | None]
    """null where it was made by hand from rows alone."""
    bought: NotRequired[Bought]
    """Where `teacher.looks` is on: at how many rows the answers were looked at, at which level, and why buying ended."""


class Candidate(TypedDict):
    """What one candidate of a training reached on val."""

    step: int
    metrics: dict[str, float]


class Selection(TypedDict):
    """Which candidate was kept."""

    rows: int
    """Rows of val."""
    candidates: list[Candidate]
    step: int
    """The one that stays."""


class Training(Sealed):
    """results/candidates/{track}/{adapter}/training.json and, with the selection, results/adapters/…: one training."""

    format: Literal["fledgling/training/1"]
    made_from: NotRequired[MadeFrom]
    track: str
    recipe: JsonObject
    history: list[dict[str, float | None]]
    """Loss, learning rate, speed and memory along the way."""
    rows: int
    left_out: dict[str, int]
    steps: int
    candidates: NotRequired[list[int]]
    """Steps after which an adapter was kept."""
    final_loss: float
    eval_loss: float | None
    seconds: float
    world_size: int
    """Processes, one a GPU."""
    micro_batch_tokens: int
    accumulation: int
    base_fingerprint: str
    backend: str
    selection: NotRequired[Selection | None]
    """How the adapter was chosen; null where there was one."""


class AdapterBase(TypedDict):
    """What an adapter is bound to."""

    name: str
    fingerprint: str
    chat_template_sha256: str | None


class AdapterFile(TypedDict):
    """Size and digest of one file of an adapter."""

    bytes: int
    sha256: str


class Adapter(Sealed):
    """results/adapters/{track}/{adapter}/manifest.json: an adapter and what it was trained on."""

    format: Literal["fledgling/adapter/1"]
    track: str
    files: dict[str, AdapterFile]
    base: AdapterBase
    data: dict[str, str]
    """sha256 of train and val."""
    recipe: JsonObject
    backend: str


class HubFile(TypedDict):
    """One file of an upload."""

    path: str
    bytes: int
    sha256: str


class HubMarker(Sealed):
    """results/hub/{track}.json: an upload that landed."""

    format: Literal["fledgling/hub/1"]
    made_from: NotRequired[MadeFrom]
    repo_id: str
    repo_type: str
    revision: NotRequired[str | None]
    private: bool
    path_in_repo: NotRequired[str | None]
    commit: str
    url: NotRequired[str]
    manifest_sha256: NotRequired[str | None]
    files: list[HubFile]


class TracedRun(TypedDict):
    """One contender's answers to one split, as a run of a dataset."""

    name: str
    contender: str
    split: str
    rows: int


class TraceMarker(Sealed):
    """results/trace/{track}.json: what was put into the outbox for Langfuse or another back-end, delivered or not."""

    format: Literal["fledgling/trace/1"]
    made_from: MadeFrom
    track: str
    to: list[str]
    """Kinds of receivers: langfuse, otlp."""
    datasets: list[str]
    """Names of the datasets: track, split and digest of the rows."""
    runs: list[TracedRun]
    parcels: list[str]
    """What each part is known by in the outbox: datasets, runs, trainings, gate, verdict."""


# Places under results/, each with what lies there; a JSON Lines file has one value a line.
PLACES: dict[str, type] = {
    "models/{model}/manifest.json": Model,
    "data/{track}/datasheet.json": Datasheet,
    "data/{track}/{split}.jsonl": Example,
    "predictions/{track}/{contender}.json": Predictions,
    "predictions/{track}/{contender}.jsonl": Prediction,
    "metrics/{track}/{contender}.json": Metrics,
    "metrics/{track}/{contender}.jsonl": ScoredRow,
    "ladder/{track}/{contender}.json": Trial,
    "shots/{track}/{contender}.json": Shots,
    "shots/{track}/{contender}.jsonl": Example,
    "compare/{track}.json": Gate,
    "candidates/{track}/{adapter}/training.json": Training,
    "candidates/{track}/{adapter}/{n}/manifest.json": Adapter,
    "adapters/{track}/{adapter}/training.json": Training,
    "adapters/{track}/{adapter}/manifest.json": Adapter,
    "verdict/{track}.json": Verdict,
    "hub/{track}.json": HubMarker,
    "trace/{track}.json": TraceMarker,
}


def digests(*paths: FilePath) -> MadeFrom:
    """{path as given: sha256} of files, sorted: what a file that is made from them says under `made_from`."""
    return {path: sha256_file(path) for path in sorted({os.fspath(path) for path in paths})}


def read(kind: type[F], path: FilePath) -> F:
    """One JSON file of a kind, its bytes those that were written, with the shape that its definition gives.

    Raises:
        DataError: missing, edited, another format or another shape; names file, key and the target that builds it
            again.
    """
    value, data = parse_json(path)
    problem = _problem(kind, value) or seals.problem(data, seals.JSON)
    if problem:
        raise DataError(f"{path}: {problem}; {remedy(path)}")
    value.pop(seals.KEY)
    return cast(F, value)


def write(kind: type[F], path: FilePath, value: F) -> None:
    """Publish one JSON file of a kind, sealed.

    Raises:
        ValueError: the value does not have its kind's shape, which is a fault of the program.
    """
    if problem := _problem(kind, value):
        raise ValueError(f"{path}: {problem}")
    text = json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False) + "\n"
    write_text(path, seals.sealed_json(text))


def remedy(path: FilePath) -> str:
    """What to type so that a file under results/ is made again."""
    target, doomed = rebuilt_by(path)
    return f"delete {doomed} and build it again with: snakemake --cores all {target}"


def rebuilt_by(path: FilePath) -> tuple[str, str]:
    """The target that makes a file again, and the file to delete before: files of a checkpoint come with its manifest."""
    parts = Path(path).parts
    if "models" in parts[:-2]:
        place = parts.index("models") + 2
        manifest = str(Path(*parts[:place], "manifest.json"))
        return manifest, manifest
    return os.fspath(path), os.fspath(path)


def check(kind: type, value: object, place: str) -> None:
    """Check one value (a line of JSON Lines, say) against its kind.

    Raises:
        DataError: names the place, the key and what is wrong.
    """
    if problem := _problem(kind, value):
        raise DataError(f"{place}: {problem}")


def seal(path: FilePath, expected: str, by: FilePath) -> None:
    """Check that a file is the one that another vouches for.

    Raises:
        DataError: it is not; names both and the target that builds it again.
    """
    if not os.path.isfile(path):
        raise DataError(f"{path}: no such file, though {by} vouches for it; {remedy(path)}")
    if sha256_file(path) != expected:
        raise DataError(
            f"{path}: its bytes are not those that {by} vouches for (edited by hand, or damaged); {remedy(path)}"
        )


def require_same(made: Mapping[str, str], others: Mapping[str, str], by: FilePath) -> None:
    """Check that a file was made from the very files that are read now, as far as both name them.

    Raises:
        DataError: one of them was another when `by` was made; names both and the target that makes it again.
    """
    for path, digest in made.items():
        if others.get(path, digest) != digest:
            raise DataError(f"{by}: was made from another {path} than there is now; {remedy(by)}")


def of(path: FilePath, *, results: FilePath = "results") -> type | None:
    """The kind of a file by its place under a results folder; None for files of other programs' formats."""
    parts = Path(os.path.relpath(path, results)).parts
    for place, kind in PLACES.items():
        wanted = Path(place).parts
        if len(wanted) == len(parts) and all(_fits(w, p) for w, p in zip(wanted, parts, strict=True)):
            return kind
    folder = [part for part in parts if part not in ("val", "repeat")]
    return None if len(folder) == len(parts) else of(Path(results, *folder), results=results)


def _fits(wanted: str, part: str) -> bool:
    if wanted.startswith("{") and wanted.endswith("}"):
        return True
    if wanted.startswith("{"):
        return Path(part).suffix == Path(wanted).suffix
    return wanted == part


def _problem(kind: type, value: object) -> str | None:
    """What is wrong with a value of a kind, the first thing; None where nothing is."""
    try:
        error = next(iter(_validator(kind).iter_errors(value)), None)
    except (ValueError, OverflowError, RecursionError) as strange:  # half characters, numbers without end, deep nesting
        return f"holds what no file of ours does ({' '.join(str(strange).split())[:200]})"
    if error is None:
        return None
    if isinstance(value, Mapping) and isinstance(value.get("format"), str):
        wanted = _format(kind)
        if wanted and value["format"] != wanted:
            return f"its format is {value['format']}, not {wanted}"
    key = ".".join(map(str, error.instance_path))
    return f"key {key!r}: {error.message[:300]}" if key else error.message[:300]


def _format(kind: type) -> str | None:
    value: str | None = _schema(kind)["properties"].get("format", {}).get("const")
    return value


@functools.cache
def _schema(kind: type) -> Any:
    return json.loads((SCHEMAS / f"{kind.__name__}.json").read_text(encoding="utf-8"))


@functools.cache
def _validator(kind: type) -> Any:
    import jsonschema_rs  # slow to import

    return jsonschema_rs.validator_for(_schema(kind))
