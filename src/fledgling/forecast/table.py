"""The report of a check for people."""

import platform

from fledgling.forecast.fit import Report
from fledgling.forecast.machine import PACKAGES, count
from fledgling.models.memory import GIB


def text(report: Report) -> str:
    """The report for people."""
    machine = report.machine
    lines = ["GPUs"]
    for number, gpu in enumerate(machine.gpus):
        lines.append(
            f"  {number}: {gpu.name}, {gpu.total / GIB:.1f} GiB ({gpu.free / GIB:.1f} free), "
            f"compute capability {gpu.capability[0]}.{gpu.capability[1]}, bf16 {'yes' if gpu.bf16 else 'no (slow)'}"
        )
    if not machine.gpus:
        lines.append("  none is visible: everything runs on the CPU")
    if machine.unseen:
        lines.append(f"  {machine.unseen} more are claimable, but this torch does not see them: install it for CUDA")
    lines += ["versions", f"  python {platform.python_version()}, CUDA of torch {machine.cuda or 'none'}"]
    lines += [f"  {name} {machine.versions.get(name, 'not installed')}" for name in PACKAGES]
    lines += ["checkpoints", *(f"  {name}: {one.text}" for name, one in report.checkpoints.items()), "stages"]
    for stage in report.stages:
        size = "unknown" if stage.bytes is None else f"{stage.bytes / GIB:.2f} GiB{' a GPU' if stage.gpus else ''}"
        time = "unknown until it has run once" if stage.seconds is None else f"{stage.seconds / 60:.1f} min last time"
        lines += [
            f"  {stage.rule} {stage.track} {stage.who}: {stage.engine or 'cannot run here'} on "
            f"{count(stage.gpus) if stage.gpus else 'the CPU'}",
            f"    why     {stage.reason}",
            f"    memory  {size} (estimate): {stage.verdict}" if stage.parts else "    memory  unknown",
        ]
        if stage.parts:
            lines.append("            " + " + ".join(f"{k} {v / GIB:.2f}" for k, v in stage.parts.items()))
        lines += [f"    path    {stage.path}"] if stage.path else []
        lines.append(f"    time    {time}")
        lines += [f"    note    {note}" for note in stage.notes]
    return "\n".join(lines)
