"""What a reader of a verdict over logged answers should know beside it."""

from collections.abc import Mapping

from fledgling.artefacts import Datasheet, Predictions
from fledgling.decision.words import percent


def of_logs(datasheet: Datasheet, answers: Mapping[str, Predictions]) -> list[str]:
    """A sentence each; none where no row comes from a log."""
    said = []
    for name, sealed in answers.items():
        if logged := sealed.get("logged", 0):
            said.append(
                f"{logged:,} of {sealed['rows']:,} answers of {name} are replies of a log, taken over instead of being asked for"
            )
    traced = datasheet.get("traces")
    if traced is None:
        return said
    models = ", ".join(traced["models"]) or "a model that the log does not name"
    approved = ", those that feedback approved" if traced["gold"] == "feedback" else ", which nobody has checked"
    said.insert(0, f"the scores are agreement with the logged answers of {models}{approved}")
    if traced["sampled"]:
        said.append(
            f"{percent(traced['sampled'] / traced['calls'])} of the logged calls had a temperature above 0: asked again, "
            "that model differs from itself, so nobody can agree with all of them"
        )
    if traced["later_turns"]:
        said.append(
            f"{traced['later_turns']:,} rows are later turns of {traced['trajectories']:,} trajectories: each turn is judged "
            "by itself, given the real history, and nothing says where an agent would have gone after an answer of its own"
        )
    return said
