"""How long a large journal takes to open, and how much memory it takes then; every job that asks opens it once.

python benchmarks/journal.py                    300,000 paid calls: an intent and a reply each
python benchmarks/journal.py --calls 1000000
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from fledgling.files import digest
from fledgling.journal import Journal

BODY = {
    "id": "chatcmpl-bcd0699f0ba1f263e852aceb",
    "object": "chat.completion",
    "created": 1700000000,
    "model": "simulated-teacher",
    "system_fingerprint": "fp_simulated",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "x" * 320}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 532, "completion_tokens": 28, "total_tokens": 560},
}
REPLY = {"status": 200, "body": json.dumps(BODY), "latency_s": 0.5, "run": "20859:1371937:00f8c0b1"}
OPEN = """\
import sys, time
from pathlib import Path
from fledgling.journal import Journal
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20
before, began = resident(), time.process_time()
with Journal(Path(sys.argv[1]), "teacher") as journal:
    seconds, calls = time.process_time() - began, len(journal)
    print(f"{calls:,} calls: opened in {seconds:.1f} s of a processor ({1e6 * seconds / calls:.1f} us a call), "
          f"{resident() - before:.0f} MiB more memory")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=300_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        with Journal(Path(name), "teacher") as journal:
            for first in range(0, options.calls, 1000):
                keys = [digest(number) for number in range(first, min(first + 1000, options.calls))]
                journal.append("intent", [(key, {"host": "simulated", "run": REPLY["run"]}) for key in keys])
                journal.append("result", [(key, REPLY) for key in keys])
        size = (Path(name) / "teacher.jsonl").stat().st_size
        print(f"{size / 1e6:,.0f} MB on disk, {size / options.calls:,.0f} bytes a call", flush=True)
        subprocess.run([sys.executable, "-c", OPEN, name], check=True)


if __name__ == "__main__":
    main()
