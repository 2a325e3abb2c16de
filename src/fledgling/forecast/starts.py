"""How often a plan starts an engine, and whether its trainings finish sooner side by side: a sentence each."""

from fledgling.config import Config
from fledgling.contenders import Job, answering, jobs, starts
from fledgling.forecast.pace import START_S, side_by_side


def sentences(config: Config) -> list[str]:
    """The starts of every track, and what to set where trainings wait for each other."""
    found = []
    for track in config["tracks"]:
        groups = starts(jobs(config, track))
        each = "; ".join(
            ", ".join(job.contender for job in group) + (" on val" if group[0].split == "val" else "")
            for group in groups
        )
        vllm = any(answering(config, group[0].contender)["engine"] != "transformers" for group in groups)
        cost = f", up to {START_S['vllm']} s each" if vllm else ""
        spared = "; vLLM answers test ahead for a trained contender, which then starts none" if vllm else ""
        found.append(
            f"{track}: an engine starts {len(groups)} times{cost} ({each}{spared if _chooses(groups) else ''})"
        )
    trained = sum(job.rule == "train" for track in config["tracks"] for job in jobs(config, track))
    gpus = config["training"]["gpus"]
    beside = side_by_side(trained, gpus, gpus)
    return found + ([beside] if beside else [])


def _chooses(groups: list[list[Job]]) -> bool:
    return any(len(group) > 1 for group in groups)
