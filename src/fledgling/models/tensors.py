"""The tensors of a checkpoint, read from its safetensors files without torch (numpy has no bfloat16).

The format (huggingface/safetensors, README): eight bytes, the header's length as a little-endian
integer; the header, JSON: {name: {"dtype", "shape", "data_offsets": [begin, end]}}, offsets counted from
its end; then the tensors, without gaps, to the end of the file.
"""

import hashlib
import json
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fledgling.errors import DataError
from fledgling.files import read_json

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
BITS = {
    "F64": 64,
    "F32": 32,
    "F16": 16,
    "BF16": 16,
    "I64": 64,
    "I32": 32,
    "I16": 16,
    "I8": 8,
    "U64": 64,
    "U32": 32,
    "U16": 16,
    "U8": 8,
    "BOOL": 8,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
}
# The exponent bits of the floating-point types: all of them set means infinity or NaN (IEEE 754).
EXPONENT = {"F64": 0x7FF0 << 48, "F32": 0x7F80 << 16, "F16": 0x7C00, "BF16": 0x7F80}
HEADER_LIMIT = 100_000_000  # the reference implementation's own
CHUNK = 1 << 24


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where one tensor's bytes are: file[begin:end]."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    begin: int
    end: int

    @property
    def numbers(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


def of_checkpoint(folder: Path) -> dict[str, Tensor]:
    """Every tensor of a checkpoint, from one file or from the shards that its index names, by name.

    Raises:
        DataError: a file is missing, damaged, or does not hold what the index says.
    """
    tensors = {tensor.name: tensor for file in files(folder) for tensor in of_file(folder / file)}
    if (folder / INDEX).is_file():
        for name, file in _weight_map(folder).items():
            if name not in tensors or tensors[name].file.name != file:
                raise DataError(f"{folder / file}: tensor {name!r} is missing, though {INDEX} names it; fetch it again")
    return tensors


def files(folder: Path) -> list[str]:
    """The names of the weight files of a checkpoint.

    Raises:
        DataError: there are none, or the index cannot be read.
    """
    if (folder / INDEX).is_file():
        return sorted(set(_weight_map(folder).values()))
    if (folder / SINGLE).is_file():
        return [SINGLE]
    raise DataError(f"{folder}: neither {SINGLE} nor {INDEX} is there; only safetensors checkpoints are read")


def of_file(path: Path) -> list[Tensor]:
    """The tensors of one safetensors file, in file order.

    Raises:
        DataError: the header is damaged, or the tensors do not fill the file exactly (it was cut short).
    """
    try:
        size = path.stat().st_size
        with open(path, "rb") as stream:
            length = struct.unpack("<Q", stream.read(8))[0] if size >= 8 else 0
            if not 2 <= length <= min(size - 8, HEADER_LIMIT):
                raise ValueError("its header does not fit")
            header = json.loads(stream.read(length))
        start = 8 + length
        tensors = []
        for name, entry in header.items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                shape = tuple(entry["shape"])
                counts = [begin, end, *shape]
                if any(type(count) is not int or count < 0 for count in counts) or not isinstance(entry["dtype"], str):
                    raise ValueError(f"tensor {name!r} is described in other types than the format has")
                tensors.append(Tensor(name, entry["dtype"], shape, path, start + begin, start + end))
        tensors.sort(key=lambda tensor: tensor.begin)
        for tensor in tensors:
            bits = BITS.get(tensor.dtype)
            if tensor.begin != start or (bits and (tensor.end - tensor.begin) * 8 != bits * tensor.numbers):
                raise ValueError(f"tensor {tensor.name!r} has a wrong size or place")
            start = tensor.end
        if start != size:
            raise ValueError(f"it has {size:,} bytes where its header describes {start:,}")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; fetch the checkpoint again") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: not a whole safetensors file ({error}); fetch it again") from None
    return tensors


def sha256(tensor: Tensor) -> str:
    """sha256 (hex) of a tensor's bytes."""
    digest = hashlib.sha256()
    for chunk in _chunks(tensor):
        digest.update(chunk)
    return digest.hexdigest()


def is_finite(tensor: Tensor) -> bool:
    """Whether no number in it is infinite or NaN; true of types that have neither."""
    import numpy

    exponent = EXPONENT.get(tensor.dtype)
    if exponent is None:
        return True
    kind = f"<u{BITS[tensor.dtype] // 8}"
    for chunk in _chunks(tensor):
        numbers = numpy.frombuffer(chunk, dtype=kind)
        if ((numbers & numbers.dtype.type(exponent)) == exponent).any():
            return False
    return True


def _chunks(tensor: Tensor) -> Iterator[bytes]:
    with open(tensor.file, "rb") as stream:
        stream.seek(tensor.begin)
        left = tensor.end - tensor.begin
        while left > 0:
            chunk = stream.read(min(CHUNK, left))
            if not chunk:
                raise DataError(f"{tensor.file}: ends inside tensor {tensor.name!r}; fetch it again")
            left -= len(chunk)
            yield chunk


def _is_plain(name: object) -> bool:
    return isinstance(name, str) and name.endswith(".safetensors") and not {"/", "\\", "\0"} & set(name)


def _weight_map(folder: Path) -> dict[str, str]:
    index = read_json(folder / INDEX)
    names = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(names, dict) or not names or not all(_is_plain(name) for name in names.values()):
        raise DataError(f"{folder / INDEX}: has no usable weight_map; fetch it again")
    return names
