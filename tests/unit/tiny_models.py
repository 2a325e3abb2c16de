"""Checkpoints of other families, of a few thousand random weights each."""

from pathlib import Path
from typing import Any

WORDS = 320
MARKS = ["<pad>", "<s>", "</s>"]
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '</s>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
SIZES = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 4096,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GPT = {"n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 4096}
KINDS: dict[str, dict[str, Any]] = {
    "phi3": {"original_max_position_embeddings": 4096},
    "llama": {},
    "qwen3": {},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "gpt2": GPT,  # attention has dropout
    "stablelm": {},  # its attention is told nothing of rows
    "cohere2": {"sliding_window": 8, "logit_scale": 0.25},
    "gemma2": {"sliding_window": 8, "query_pre_attn_scalar": 8, "attn_logit_softcapping": 2.0},
    "granite": {"logits_scaling": 8.0, "embedding_multiplier": 4.0},
    "bloom": GPT,  # biases by distance, which are no positions
    "lfm2": {"block_ff_dim": 48, "layer_types": ["conv", "full_attention"] * 2},
    "recurrent_gemma": {  # its logits have a cap
        "lru_width": 32,
        "attention_window_size": 8,
        "block_types": ["recurrent", "attention"],
        "num_hidden_layers": 2,
        "logits_soft_cap": 4.0,
    },
    "rwkv": {"attention_hidden_size": 32},  # takes padding for text, too
    "gpt_oss": {"num_local_experts": 2, "num_experts_per_tok": 1, "sliding_window": 8},  # sinks
    "mamba2": {"num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 1, "expand": 2, "chunk_size": 16},
}


def config_of(kind: str) -> Any:
    from transformers import AutoConfig

    return AutoConfig.for_model(kind, **(SIZES | KINDS[kind]))


def save(kind: str, folder: Path) -> Path:
    """A checkpoint of a kind, a token a byte; its weights are large enough for every token to matter."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config_of(kind), dtype=torch.float32)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() >= 2 and "norm" not in name:
                weight.copy_(torch.randn_like(weight) * 1.5 / weight.shape[-1] ** 0.5)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def tokenizer() -> Any:
    """A token a byte, with a padding token of its own."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = [*MARKS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    words += [f"<{number}>" for number in range(len(words), WORDS)]
    made = Tokenizer(models.BPE(vocab={word: number for number, word in enumerate(words)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    pad, begin, end = MARKS
    fast = PreTrainedTokenizerFast(tokenizer_object=made, bos_token=begin, eos_token=end, pad_token=pad)
    fast.chat_template = TEMPLATE
    return fast
