"""An untrained checkpoint with everything that Phi-4-mini has, at a four-thousandth of its size.

Fused projections, three query heads to a key-value head, rotary embeddings on three quarters of a
head with LongRoPE factors, tied embeddings; its special tokens, its chat template, a byte-level
tokenizer that encodes any text.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, Phi3Config, Phi3ForCausalLM, PreTrainedTokenizerFast

HIDDEN, INTERMEDIATE, LAYERS, HEADS, KV_HEADS = 192, 512, 2, 6, 2
ROTARY_SHARE = 0.75
VOCABULARY = 2048
# (text, special, swallows white space to its right), as in Phi-4-mini's tokenizer
SPECIAL_TOKENS = (
    ("<|endoftext|>", True, False),
    ("<|endofprompt|>", True, False),
    ("<|assistant|>", True, True),
    ("<|end|>", True, True),
    ("<|user|>", True, True),
    ("<|system|>", True, True),
    ("<|tool|>", False, True),
    ("<|/tool|>", False, True),
    ("<|tool_call|>", False, True),
    ("<|/tool_call|>", False, True),
    ("<|tool_response|>", False, True),
    ("<|tag|>", True, True),
)
# As Phi-4-mini's own: tools are text under the system message's `tools` key, a list there is an error.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' and 'tools' in message and message['tools'] is not none %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|tool|>' + message['tools'] + '<|/tool|>' + '<|end|>' }}"
    "{% else %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}"
)
# White space and quotes never join a word: a value is the same token in the request and in the JSON,
# which turns filling in a value into copying a token.
WORDS = r"\p{L}+|\p{N}{1,3}|[^\s\p{L}\p{N}]+|\s"


def tokenizer(texts: Iterable[str]) -> Any:
    """A byte-level BPE tokenizer learned from the texts, with Phi-4-mini's special tokens and chat template."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY - len(SPECIAL_TOKENS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=[],
            show_progress=False,
        ),
    )
    core.add_tokens(
        [
            AddedToken(text, special=special, rstrip=rstrip, lstrip=False, normalized=False)
            for text, special, rstrip in SPECIAL_TOKENS
        ]
    )
    result = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        model_max_length=131072,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )
    result.chat_template = CHAT_TEMPLATE
    return result


def model(tokens: Any) -> Any:
    """An untrained Phi3ForCausalLM for this tokenizer, started so that it soon learns to copy.

    Draws from torch's global generator: seed it first.
    """
    head = HIDDEN // HEADS
    frequencies = int(head * ROTARY_SHARE) // 2
    end, end_of_text = tokens.convert_tokens_to_ids(["<|end|>", "<|endoftext|>"])
    config = Phi3Config(
        vocab_size=math.ceil(len(tokens) / 64) * 64,
        hidden_size=HIDDEN,
        intermediate_size=INTERMEDIATE,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        max_position_embeddings=131072,
        original_max_position_embeddings=4096,
        tie_word_embeddings=True,
        sliding_window=262144,
        rms_norm_eps=1e-5,
        bos_token_id=end_of_text,
        eos_token_id=end_of_text,
        pad_token_id=end_of_text,
        rope_theta=10000.0,
        partial_rotary_factor=ROTARY_SHARE,
        rope_scaling={
            "type": "longrope",
            "short_factor": [1.0] * frequencies,
            "long_factor": [1.0 + 31.0 * index / (frequencies - 1) for index in range(frequencies)],
        },
    )
    result = Phi3ForCausalLM(config)
    with torch.no_grad():
        embedding = result.model.embed_tokens.weight
        embedding.normal_(0, 0.1)
        for layer in result.model.layers:
            _match_and_copy(layer.self_attn)
        _look_back(result.model.layers[0].self_attn, embedding, frequencies)
    result.generation_config = GenerationConfig(
        bos_token_id=end_of_text, eos_token_id=[end, end_of_text], pad_token_id=end_of_text, do_sample=False
    )
    return result


def _rotation() -> Any:
    return torch.linalg.qr(torch.randn(HIDDEN, HIDDEN))[0]


def _rows(attention: Any) -> tuple[Any, Any, Any]:
    """The query, key and value rows of the fused projection, each (heads, head size, hidden); views."""
    head = HIDDEN // HEADS
    weight = attention.qkv_proj.weight.view(HEADS + 2 * KV_HEADS, head, HIDDEN)
    return weight[:HEADS], weight[HEADS : HEADS + KV_HEADS], weight[HEADS + KV_HEADS :]


def _match_and_copy(attention: Any, copy: float = 1.5, match: float = 1.0) -> None:
    """A "mimetic" start (Trockman and Kolter 2023): attend to equal tokens, pass what is attended to the tied head."""
    head, group = HIDDEN // HEADS, HEADS // KV_HEADS
    basis = _rotation()
    queries, keys, values = _rows(attention)
    output = attention.o_proj.weight.view(HIDDEN, HEADS, head)
    for index in range(KV_HEADS):
        read = basis[index * head : (index + 1) * head]
        values[index] = read * copy**0.5
        output[:, index * group : (index + 1) * group] = (read.T * copy**0.5 / group)[:, None]
        same = basis[HIDDEN - (index + 1) * head : HIDDEN - index * head]
        keys[index] = same * match**0.5
        queries[index * group] = same * match**0.5


def _look_back(attention: Any, embedding: Any, frequencies: int, copy: float = 1.0, sharpness: float = 4.0) -> None:
    """Make the heads of the first key-value group attend to the token before, through the rotary phases.

    Needs a direction that all embeddings share; a constant in every logit, it leaves the tied head alone.
    """
    head, group = HIDDEN // HEADS, HEADS // KV_HEADS
    basis = _rotation()
    shared = basis[-1]
    embedding += shared * embedding.norm(dim=1).mean()
    phases = 10000.0 ** (-torch.arange(frequencies) / frequencies)
    weight = torch.zeros(frequencies)
    weight[:3] = torch.tensor([1.0, 1.0, 0.7])  # the fast ones tell neighbours apart
    query, key = torch.zeros(head), torch.zeros(head)
    key[:frequencies] = weight
    query[:frequencies] = weight * torch.cos(phases)
    query[frequencies : 2 * frequencies] = -weight * torch.sin(phases)
    scale = (sharpness * head**0.5 / HIDDEN) ** 0.5 / 0.7
    queries, keys, values = _rows(attention)
    queries[:group] = scale * query[:, None] * shared
    keys[0] = scale * key[:, None] * shared
    values[0] = basis[:head] * copy**0.5
    output = attention.o_proj.weight.view(HIDDEN, HEADS, head)
    output[:, :group] = (basis[head : 2 * head].T * copy**0.5 / group)[:, None]
