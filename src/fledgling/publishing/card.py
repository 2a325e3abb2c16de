"""The model card of a tuned adapter, made of numbers that were measured."""

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass

from huggingface_hub import EvalResult, ModelCardData

from fledgling.artefacts import Adapter, GapOnMetric, Metrics, Rate, Rung, Verdict
from fledgling.models.checkpoint import Model

KINDS = {"toolcall": "tool calls", "structured": "structured output"}
SIMULATED = (
    "**Simulated.** The teacher is a simulated endpoint that errs at a stated rate: the comparison shows that the "
    "pipeline works, and says nothing about a real teacher."
)
GENERATED = (
    "The base is a small model that Fledgling made for demonstration; it knows nothing beyond its generated rows."
)
LOGGED = {
    "reply": "**Measured is agreement with logged answers**: what the teacher answered in production, which nobody has checked.",
    "feedback": "**Measured is agreement with logged answers** of the teacher in production that feedback approved.",
}
RECIPE_WORDS = {
    "quantization": "quantization of the base",
    "rank": "LoRA rank",
    "alpha": "LoRA alpha",
    "dropout": "LoRA dropout",
    "learning_rate": "learning rate",
    "scheduler": "schedule",
    "warmup_ratio": "warm-up",
    "weight_decay": "weight decay",
    "epochs": "epochs",
    "global_batch": "global batch",
    "max_length": "longest row (tokens)",
    "gradient_checkpointing": "gradient checkpointing",
    "seed": "seed",
}


@dataclass(frozen=True)
class Facts:
    """What a card is made of: parsed artefacts of one track, as the stages wrote them.

    `contender` is the one that answers under the adapter, `metrics` {contender: results/metrics/{track}/{contender}.json},
    `adapter` the manifest, `model` the base.
    `forced` says that the verdict recommends something else.
    """

    repo_id: str
    title: str
    verdict: Verdict
    contender: Rung
    metrics: Mapping[str, Metrics]
    adapter: Adapter
    model: Model
    license: str | None = None
    forced: bool = False


def card(facts: Facts) -> str:
    """The README.md of an adapter: metadata (with a model-index of the measured rates) and what it says to people."""
    return f"---\n{_metadata(facts).to_yaml()}\n---\n\n{_body(facts)}"


def _metadata(facts: Facts) -> ModelCardData:
    simulated = bool(facts.verdict["simulated"])
    tags = ["fledgling", "lora", "tool-calling" if facts.verdict["kind"] == "toolcall" else "structured-output"]
    base = facts.model.repo_id
    return ModelCardData(
        base_model=base,
        base_model_relation="adapter" if base else None,
        library_name="peft",
        license=facts.license,
        pipeline_tag="text-generation",
        tags=tags + (["simulated"] if simulated else []),
        model_name=facts.repo_id.rpartition("/")[2],
        eval_results=_eval_results(facts, " (simulated)" if simulated else ""),
    )


def _eval_results(facts: Facts, stamp: str) -> list[EvalResult]:
    own = facts.metrics[facts.contender["name"]]
    return [
        EvalResult(
            task_type="text-generation",
            task_name=KINDS[facts.verdict["kind"]],
            dataset_type=facts.verdict["track"],
            dataset_name=facts.title + stamp,
            dataset_split="test",
            dataset_args={"sha256": own["data_sha256"]},
            metric_type=name,
            metric_name=name.replace("_", " "),
            metric_value=metric["value"],
            metric_args={key: value for key, value in metric.items() if key != "value"},
        )
        for name, metric in own["metrics"].items()
        if _measured(metric)
    ]


def _measured(metric: Rate | None) -> bool:
    return metric is not None and metric["n"] > 0 and math.isfinite(metric["value"])


def _body(facts: Facts) -> str:
    verdict = facts.verdict
    parts = [f"# {_line(facts.title)}: LoRA adapter for {_base(facts)}"]
    if verdict["simulated"]:
        parts.append(f"> {SIMULATED}")
    if facts.model.generated:
        parts.append(f"> {GENERATED}")
    if facts.forced:
        parts.append(
            f"> **Published against the verdict**, which is to deploy: {verdict['deploy']}. "
            "Publishing was forced in the configuration."
        )
    parts += [
        _line(verdict["statement"]),
        *_reasons(verdict),
        *_ladder(verdict),
        *_caveats(verdict),
        _results(facts),
        _training(facts),
        _use(facts),
        _limits(facts),
    ]
    return "\n\n".join(parts) + "\n"


def _reasons(verdict: Verdict) -> list[str]:
    reasons = [f"- {_line(reason)}" for reason in verdict["reasons"]]
    return ["\n".join(reasons)] if reasons else []


def _ladder(verdict: Verdict) -> list[str]:
    """Why no dearer contender was built, and what is promised about all of them."""
    climb, family = verdict.get("climb"), verdict.get("family")
    said = [climb["stopped"]] if climb and len(climb["rungs"]) > 1 else []
    said += [family["promise"].removesuffix(".")] if family else []
    return [" ".join(f"{_line(one[:1].upper() + one[1:])}." for one in said)] if said else []


def _caveats(verdict: Verdict) -> list[str]:
    """What a reader should know beside the answer: every caveat of the verdict; [] without any."""
    caveats = [f"- {_line(caveat)}" for caveat in verdict["caveats"]]
    return ["\n".join(["## What to keep in mind", "", *caveats])] if caveats else []


def _results(facts: Facts) -> str:
    name, before = facts.contender["name"], facts.contender["after"]
    named = {"teacher": "teacher", **({before: "base"} if before else {}), name: "this adapter"}
    contenders = [one for one in named if one in facts.metrics]
    head = ["metric", *(named[one] for one in contenders), "against the teacher, points", "inside the margin"]
    rows = [head, ["---"] * len(head)]
    compared, own = facts.verdict["comparisons"][name]["metrics"], facts.metrics[name]
    for metric in sorted(own["metrics"], key=lambda one: one not in compared or not compared[one]["core"]):
        gap = compared.get(metric)
        label = f"**{metric}**" if gap and gap["core"] else metric
        rates = [_rate(facts.metrics[one]["metrics"].get(metric)) for one in contenders]
        rows.append([label, *rates, *(_gap(gap) if gap else ("", ""))])
    margin, alpha, gold = facts.verdict["margin"], facts.verdict["alpha"], facts.verdict.get("gold")
    return "\n\n".join(
        [
            "## Measured",
            f"On the same {own['n']} test rows for everyone (sha256 `{own['data_sha256']}`). Every row counts: "
            f"an empty, filtered or failed reply is an answer that is not {'as logged' if gold else 'right'}."
            + (f" {LOGGED[gold]}" if gold else ""),
            "\n".join(f"| {' | '.join(row)} |" for row in rows),
            f"Core metrics are bold and all of them must hold. Rates with 95 % intervals. Points against the teacher are "
            f"paired by row, in brackets their bounds, each with {100 * (1 - alpha):g} % confidence; inside the margin means: "
            f"even the worse bound is less than {100 * margin:g} points worse. {_risk(facts.verdict)}",
        ]
    )


def _rate(metric: Rate | None) -> str:
    if metric is None or not _measured(metric):
        return "not measured"
    return f"{100 * metric['value']:.1f} % ({100 * metric['low']:.1f}–{100 * metric['high']:.1f})"


def _gap(gap: GapOnMetric) -> tuple[str, str]:
    text = f"{_points(gap['gap'])} ({_points(gap['low'])} to {_points(gap['high'])})"
    return text, "yes" if gap["non_inferior"] else "no"


def _points(gap: float) -> str:
    """A gap (teacher minus adapter) in words: "33.9 worse", "2.0 better", "level"."""
    size = f"{abs(100 * gap):.1f}"
    return "level" if size == "0.0" else f"{size} {'worse' if gap > 0 else 'better'}"


def _risk(verdict: Verdict) -> str:
    looks = verdict["looks"]
    risk = looks["false_swap_at_most"] if looks else verdict["alpha"]
    number = f", over all {looks['number']} verdicts on these rows" if looks and looks["number"] > 1 else ""
    return f"Chance that a too-bad model is called good: {100 * risk:g} %{number}."


def _training(facts: Facts) -> str:
    recipe, data = facts.adapter["recipe"], facts.adapter["data"]
    rows = [f"| {label} | {recipe[key]} |" for key, label in RECIPE_WORDS.items() if key in recipe]
    return "\n\n".join(
        [
            "## How it was trained",
            f"Back-end: {facts.adapter['backend']}. The loss is on the completion only.",
            "\n".join(["| | |", "| --- | --- |", *rows]),
            "\n".join(
                [
                    f"- base: {_base(facts)}, fingerprint `{facts.model.fingerprint}`",
                    *(f"- {name}: `{digest}`" for name, digest in sorted(data.items())),
                ]
            ),
        ]
    )


def _use(facts: Facts) -> str:
    base = facts.model.repo_id
    if not base:
        return "## Use\n\nThe base is not on the Hub; load the adapter on the checkpoint with the fingerprint above."
    revision = facts.model.revision
    pin = f', revision="{revision}"' if revision else ""
    return "\n".join(
        [
            "## Use",
            "",
            "```python",
            "from peft import PeftModel",
            "from transformers import AutoModelForCausalLM",
            "",
            f'base = AutoModelForCausalLM.from_pretrained("{base}"{pin})',
            f'model = PeftModel.from_pretrained(base, "{facts.repo_id}")',
            "```",
        ]
    )


def _limits(facts: Facts) -> str:
    return "\n".join(
        [
            "## Limits",
            "",
            f"- Measured on one track ({_line(facts.title)}, {KINDS[facts.verdict['kind']]}) and its own test rows; "
            "other requests, tools or schemas were not measured.",
            "- Fits only the base named above, with its chat template as it was; peft loads it on another base without a word.",
            '- "Inside the margin" allows a loss of up to the margin; it does not say equal.',
        ]
    )


def _base(facts: Facts) -> str:
    name, revision = facts.adapter["base"]["name"], facts.model.revision
    return f"{name} at revision `{revision}`" if revision else str(name)


def _line(text: str) -> str:
    """Foreign text as one line that is no markup; half an emoji becomes U+FFFD, which files can hold."""
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return html.escape(" ".join(whole.split()), quote=False)
