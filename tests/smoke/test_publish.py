"""The tuned adapter lands on a Hub: a local server that speaks the protocol, through the graph's own rule."""

import json

from tests.servers.hub import TOKEN, Hub


def test_the_adapter_of_the_verdict_is_published_once(copied):
    (copied.folder / "hub.json").write_text(json.dumps({"publish": {"repo_id": "org/{track}-slm", "license": "mit"}}))
    arguments = ("--configfile", "hub.json", "--", "results/hub/toolcall.json")
    with Hub() as hub:
        env = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
        copied.build(*arguments, **env)
        marker = copied.read("hub/toolcall.json")
        repo = hub.repo("org/toolcall-slm")
        assert repo.private
        assert marker["commit"] == repo.branches["main"][-1].oid
        files = repo.files
        assert {"adapter_model.safetensors", "adapter_config.json", "README.md"} <= set(files)
        adapter = (copied.folder / "results/adapters/toolcall/sft/adapter_model.safetensors").read_bytes()
        assert files["adapter_model.safetensors"] == adapter
        assert "simulated" in files["README.md"].decode().lower()
        commits = len(repo.commits)
        (copied.folder / "results/hub/toolcall.json").unlink()
        copied.build(*arguments, **env)
        assert len(repo.commits) == commits, "what has landed is not committed again"
        assert copied.read("hub/toolcall.json") == marker
