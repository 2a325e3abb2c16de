"""How often a plan starts an engine, and whether its trainings finish sooner side by side: a sentence each."""

from fledgling.config import Config
from fledgling.contenders import Job, answering, jobs, starts
from fledgling.forecast.pace import START_S, replays, side_by_side


def sentences(config: Config) -> list[str]:
    """The starts of every track, and what to set where trainings wait for each other."""
    found = []
    for track in config["tracks"]:
        asked = jobs(config, track)
        vllm = any(
            answering(config, job.contender)["engine"] != "transformers" for job in asked if job.rule == "answer"
        )
        groups = starts(config, asked, ahead=vllm)
        how = f" under vLLM, {START_S['vllm']} s each" if vllm else ""
        each = "; ".join(_who(group) for group in groups)
        found.append(f"{track}: an engine starts at most {len(groups)} times{how} ({each})")
    trained = sum(job.rule == "train" for track in config["tracks"] for job in jobs(config, track))
    gpus = config["training"]["gpus"]
    replayed = replays(config["training"], checkpointing=config["recipe"].get("gradient_checkpointing", False))
    beside = side_by_side(trained, gpus, gpus, replayed=replayed)
    return found + ([beside] if beside else [])


def _who(group: list[Job]) -> str:
    """Who shares a start, and on which rows."""
    names = ", ".join(dict.fromkeys(job.contender for job in group))
    if group[0].rule == "choose_shots":
        return f"the shots of {names}"
    splits = " and ".join(dict.fromkeys(str(job.split) for job in group))
    return f"{names} on {splits}{' again' if group[0].repeat else ''}"
