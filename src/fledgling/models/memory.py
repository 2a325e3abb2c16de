"""How much memory an slm needs, from its config.json alone: formulas in bytes, of dense decoders of Llama's shape.

A layer is attention over `qkv_proj` and `o_proj`, a gated MLP of `gate_up_proj` and `down_proj`, and two norms;
separate projections (q, k, v; gate, up) hold as many weights as fused ones. Docs/performance.md says what the
formulas were held against.
"""

import bisect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fledgling.errors import DataError

GIB = 2**30
NF4_BLOCK, NF4_NESTED = 64, 256  # weights that share a constant, constants that share one (bitsandbytes)
TILE_TOKENS, TILE_WORDS = 4096, 32768  # logits held at once by TRL 1.15 (TOKEN_CHUNK_SIZE, _CHUNKED_LOGPROB_CHUNK_SIZE)
USABLE = 0.9  # share of a GPU that a stage may plan with: CUDA's context and fragmentation take the rest
MOST_TOKENS = 16384  # on a GPU at once; beyond it a step gets no faster (docs/performance.md)
UNFUSED_COPIES = 4  # logits, scaled logits, log-softmax and its gradient (fledgling.training.cpu_loss)


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a checkpoint; `query` and `kv` are the widths of all query and of all key (or value) heads."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    intermediate: int
    vocabulary: int
    tied: bool
    qkv_bias: bool = False

    @classmethod
    def of(cls, config: Mapping[str, Any], *, tied: bool = False) -> "Shape":
        """The shape in a config.json; `tied` stands in where it does not say whether head and embedding are one.

        Raises:
            DataError: a size is missing, or the layers are mixtures of experts.
        """
        if experts := config.get("num_local_experts") or config.get("num_experts"):
            raise DataError(f"config.json has {experts} experts a layer, which no formula here covers")
        try:
            heads = config["num_attention_heads"]
            return cls(
                hidden=config["hidden_size"],
                layers=config["num_hidden_layers"],
                heads=heads,
                kv_heads=config.get("num_key_value_heads") or heads,
                head_size=config.get("head_dim") or config["hidden_size"] // heads,
                intermediate=config["intermediate_size"],
                vocabulary=config["vocab_size"],
                tied=config.get("tie_word_embeddings", tied),
                qkv_bias=config.get("attention_bias", config.get("model_type") == "qwen2"),
            )
        except KeyError as error:
            raise DataError(f"config.json has no {error}") from None

    @property
    def query(self) -> int:
        """Width of all query heads."""
        return self.heads * self.head_size

    @property
    def kv(self) -> int:
        """Width of all key heads, which is that of all value heads."""
        return self.kv_heads * self.head_size


def projections(shape: Shape) -> dict[str, tuple[int, int]]:
    """(inputs, outputs) of the linear layers of one decoder layer, as the Phi-3 family fuses them."""
    return {
        "qkv_proj": (shape.hidden, shape.query + 2 * shape.kv),
        "o_proj": (shape.query, shape.hidden),
        "gate_up_proj": (shape.hidden, 2 * shape.intermediate),
        "down_proj": (shape.intermediate, shape.hidden),
    }


def linear_weights(shape: Shape) -> int:
    """Weights in the linear layers of all decoder layers, the part that is quantised: layers · Σ inputs · outputs."""
    return shape.layers * sum(inputs * outputs for inputs, outputs in projections(shape).values())


def other_weights(shape: Shape) -> int:
    """Weights that stay whole: the embedding, the head where it is not tied, norms (2 · layers + 1), biases."""
    embeddings = shape.vocabulary * shape.hidden * (1 if shape.tied else 2)
    biases = shape.layers * (shape.query + 2 * shape.kv) if shape.qkv_bias else 0
    return embeddings + (2 * shape.layers + 1) * shape.hidden + biases


def parameters(shape: Shape) -> int:
    """All weights."""
    return linear_weights(shape) + other_weights(shape)


def nf4_bytes(weights: int) -> int:
    """Bytes of one linear layer in NF4 with double quantisation, about 0.516 a weight.

    weights / 2, one byte for each 64 weights, four for each 256 of those; two code tables (16 and 256 fp32)
    and an offset. QLoRA (Dettmers et al. 2023, arXiv:2305.14314), section 3; bitsandbytes.functional.quantize_4bit.
    """
    blocks = math.ceil(weights / NF4_BLOCK)
    return math.ceil(weights / 2) + blocks + 4 * math.ceil(blocks / NF4_NESTED) + 4 * (16 + 256 + 1)


def weight_bytes(shape: Shape, precision: str, *, cuda: bool = True) -> int:
    """Bytes of the checkpoint in memory; `precision` is fp32, bf16, fp8, int8 or nf4 (fledgling.models.loading).

    fp32 has 4 and bf16 2 bytes a weight. fp8 has 1 in the linear layers and a fp32 scale each. int8 has 1 in the linear layers and a fp32 scale an output (LLM.int8,
    Dettmers et al. 2022, arXiv:2208.07339); nf4 see `nf4_bytes`. What is not quantised is bf16 on a card, fp32 on a CPU.
    """
    other = other_weights(shape) * whole_bytes(precision, cuda=cuda)
    if precision in ("fp32", "bf16"):
        return linear_weights(shape) * whole_bytes(precision, cuda=cuda) + other
    sizes = projections(shape).values()
    if precision == "fp8":
        return shape.layers * sum(inputs * outputs + 4 for inputs, outputs in sizes) + other
    if precision == "int8":
        return shape.layers * sum(inputs * outputs + 4 * outputs for inputs, outputs in sizes) + other
    return shape.layers * sum(nf4_bytes(inputs * outputs) for inputs, outputs in sizes) + other


def whole_bytes(precision: str, *, cuda: bool = True) -> int:
    """Bytes of one number that is not quantised: weights, activations and cache (fledgling.models.loading)."""
    return 4 if precision == "fp32" or (precision != "bf16" and not cuda) else 2


def lora_parameters(shape: Shape, rank: int) -> int:
    """Weights of LoRA on the four fused projections: layers · rank · Σ (inputs + outputs).

    Hu et al. 2021, arXiv:2106.09685. Where a checkpoint's projections are not fused there are up to 1.3 times as many.
    """
    return shape.layers * rank * sum(inputs + outputs for inputs, outputs in projections(shape).values())


def lora_training_bytes(shape: Shape, rank: int, *, world: int = 1, deepspeed: bool = False) -> int:
    """Bytes of LoRA in training on each of `world` cards, everything in fp32 (fledgling.training.loop).

    16 a weight: itself, its gradient and Adam's two moments. DDP holds the gradients once more, in its buckets (4);
    DeepSpeed's ZeRO-2 spreads gradients and moments over the cards (4 + 12 / world; Rajbhandari et al. 2020,
    arXiv:1910.02054), its buckets not counted.
    """
    weights = lora_parameters(shape, rank)
    if deepspeed:
        return weights * 4 + math.ceil(weights * 12 / world)
    return weights * (20 if world > 1 else 16)


def kv_bytes(shape: Shape, number: int = 2) -> int:
    """Bytes of the key-value cache for one token: 2 · layers · kv_heads · head_size numbers of `number` bytes."""
    return 2 * shape.layers * shape.kv * number


def layer_bytes(shape: Shape, rank: int, *, backend: str, dropout: bool) -> int:
    """Bytes that the backward pass of one layer needs for one token, in bf16, with an attention that keeps no scores.

    Counted from the tensors that autograd keeps, in the manner of Korthikanti et al. 2022 (arXiv:2205.05198, section
    4.1): 4 query + 4 kv (rotated q and k, v, the output) + 8 intermediate (gate and up, silu(gate), their product) +
    8 rank (what the four A matrices write) + 8 hidden (input and output of two norms). With transformers' own modules
    (peft) a norm keeps its input in fp32 too (16 hidden) and k and v are repeated for each query head (8 query).
    LoRA's dropout keeps a mask and the dropped input: 3 bytes for each of the four inputs; compiled layers keep half
    of that (measured: 1.35). peft counts as unsloth where its layers are compiled (fledgling.training.objective).
    """
    unsloth = backend == "unsloth"
    kept = (8 if unsloth else 16) * shape.hidden + 8 * shape.intermediate + 8 * rank
    kept += 4 * (shape.query + shape.kv) if unsloth else 8 * shape.query
    inputs = sum(inputs for inputs, _ in projections(shape).values())
    return kept + (inputs * 3 // (2 if unsloth else 1) if dropout else 0)


def largest_layer_bytes(shape: Shape) -> int:
    """Bytes of the largest linear layer in bf16: what a quantised layer becomes for as long as it multiplies."""
    return 2 * max(inputs * outputs for inputs, outputs in projections(shape).values())


def loss_bytes(shape: Shape, tokens: int, *, fused: bool = True) -> int:
    """Bytes of logits and loss for the tokens of a micro-batch.

    Fused (on a card, both back-ends): one tile of logits in bf16, and 6 hidden a token for the gradient of the last
    hidden states in fp32 and bf16. Otherwise (on a CPU): all logits in fp32, four times.
    """
    if not fused:
        return 4 * UNFUSED_COPIES * shape.vocabulary * tokens
    return 2 * min(tokens, TILE_TOKENS) * min(shape.vocabulary, TILE_WORDS) + 6 * shape.hidden * tokens


def training_parts(
    shape: Shape,
    *,
    tokens: int,
    rank: int,
    quantization: str,
    backend: str,
    checkpointing: bool,
    dropout: bool,
    world: int = 1,
    deepspeed: bool = False,
    cuda: bool = True,
) -> dict[str, int]:
    """Bytes at the peak of training on one card, by what they are for; `tokens` lie on it at once.

    activations: what all layers keep; with checkpointing what one layer keeps while it is computed again, and the
    input of every layer (2 hidden a token), which unsloth moves to main memory.
    working: the gradients inside one MLP (6 intermediate a token) or the loss, whichever is more, and one layer's
    dequantised weights. On a CPU all activations are fp32.
    """
    precision = "nf4" if quantization == "nf4" else "bf16" if cuda else "fp32"
    wide = 1 if cuda else 2
    layer = layer_bytes(shape, rank, backend=backend, dropout=dropout)
    inputs = 0 if backend == "unsloth" else 2 * shape.hidden * shape.layers
    activations = tokens * (inputs + layer if checkpointing else layer * shape.layers)
    working = max(wide * 6 * shape.intermediate * tokens, loss_bytes(shape, tokens, fused=cuda))
    return {
        "weights": weight_bytes(shape, precision, cuda=cuda),
        "LoRA and Adam": lora_training_bytes(shape, rank, world=world, deepspeed=deepspeed),
        "activations": wide * activations,
        "working": working + (wide * largest_layer_bytes(shape) if quantization == "nf4" else 0),
    }


def tokens_at_once(
    shape: Shape,
    room: int,
    *,
    rank: int,
    quantization: str,
    backend: str,
    checkpointing: bool,
    dropout: bool,
    world: int = 1,
    deepspeed: bool = False,
) -> int:
    """The most tokens of a micro-batch (a multiple of 256) with which training stays within `room` bytes of a GPU.

    At least 256, where nothing fits: training then says that its memory ran out.
    """

    def needed(tokens: int) -> int:
        parts = training_parts(
            shape,
            tokens=tokens,
            rank=rank,
            quantization=quantization,
            backend=backend,
            checkpointing=checkpointing,
            dropout=dropout,
            world=world,
            deepspeed=deepspeed,
        )
        return sum(parts.values())

    fitting = bisect.bisect_right(range(256, MOST_TOKENS + 1, 256), room, key=needed)
    return 256 * max(1, fitting)


def prediction_parts(
    shape: Shape,
    *,
    precision: str,
    rows: int,
    prompt: int,
    answer: int,
    cards: int = 1,
    lora_rank: int = 0,
    cuda: bool = True,
) -> dict[str, int]:
    """Bytes at the peak of `rows` answers together through transformers, on one of the `cards` that share the layers.

    working: at most what one layer keeps for training while the prompts are read, the logits of the last token
    (once more in fp32), and the dequantised weights of one layer (nf4) or its int32 products (int8). LoRA is fp32.
    """
    number = whole_bytes(precision, cuda=cuda)
    working = rows * prompt * layer_bytes(shape, 0, backend="peft", dropout=False) * number // 2
    working += rows * shape.vocabulary * (4 + number)
    if precision == "nf4":
        working += largest_layer_bytes(shape) * number // 2
    elif precision == "int8":
        working += 4 * rows * prompt * max(outputs for _, outputs in projections(shape).values())
    parts = {"weights": weight_bytes(shape, precision, cuda=cuda)}
    if lora_rank:
        parts["LoRA"] = 4 * lora_parameters(shape, lora_rank)
    parts["cache"] = rows * (prompt + answer) * kv_bytes(shape, number)
    return {name: math.ceil(size / cards) for name, size in parts.items()} | {"working": working}


def vllm_parts(
    shape: Shape, *, precision: str, length: int, lora_rank: int = 0, step_tokens: int = 8192, step_rows: int = 256
) -> dict[str, int]:
    """The least that a vLLM replica starts with on its card: weights, and a cache for one row of `length` tokens.

    `step_tokens` and `step_rows` are read at once (vLLM's defaults max_num_batched_tokens and max_num_seqs on most
    cards). CUDA graphs are not counted. Whatever the card has beyond this becomes cache.
    """
    number = whole_bytes(precision)
    parts = {"weights": weight_bytes(shape, precision)}
    if lora_rank:
        parts["LoRA"] = number * lora_parameters(shape, lora_rank)
    working = step_tokens * layer_bytes(shape, 0, backend="unsloth", dropout=False) * number // 2
    return parts | {
        "cache": length * kv_bytes(shape, number),
        "working": working + step_rows * shape.vocabulary * 4,
    }
