"""Damage to safetensors: to the header, whose offsets say which bytes are which tensor's, and to the tensors."""

import json
from typing import Any

from campaign.mutations import json_text
from campaign.mutations.target import Mutation, Target

Header = dict[str, Any]
DTYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "f32", "X9", "")
SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
# Little-endian NaN, infinity and the largest number of each.
SPECIALS = {
    "F64": ("000000000000f87f", "000000000000f07f", "ffffffffffffef7f"),
    "F32": ("0000c07f", "0000807f", "ffff7f7f"),
    "F16": ("007e", "007c", "ff7b"),
    "BF16": ("c07f", "807f", "7f7f"),
}


def _read(target: Target) -> tuple[Header, bytes]:
    content = target.path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def _write(target: Target, header: Header | str, data: bytes) -> None:
    text = (header if isinstance(header, str) else json.dumps(header, separators=(",", ":"))).encode()
    text += b" " * (-len(text) % 8)
    target.replace(len(text).to_bytes(8, "little") + text + data)


def _one(target: Target, header: Header) -> str:
    return target.chance.choice([name for name in header if name != "__metadata__"])


def _edited(target: Target, change: Any) -> str | None:
    header, data = _read(target)
    said: str | None = change(header)
    if said is not None:
        _write(target, header, data)
    return said


def reversed_offsets(target: Target) -> str | None:
    def change(header: Header) -> str:
        name = _one(target, header)
        header[name]["data_offsets"].reverse()
        return name

    return _edited(target, change)


def overlapping_offsets(target: Target) -> str | None:
    def change(header: Header) -> str | None:
        name, other = _one(target, header), _one(target, header)
        if header[name]["data_offsets"] == header[other]["data_offsets"]:
            return None
        header[name]["data_offsets"] = header[other]["data_offsets"]
        return f"{name} as {other}"

    return _edited(target, change)


def shifted_offsets(target: Target) -> str | None:
    def change(header: Header) -> str:
        name, by = _one(target, header), target.chance.choice((-8, -2, -1, 1, 2, 8, 10**12))
        header[name]["data_offsets"] = [it + by for it in header[name]["data_offsets"]]
        return f"{name} by {by}"

    return _edited(target, change)


def exchanged_offsets(target: Target) -> str | None:
    def change(header: Header) -> str | None:
        name = _one(target, header)
        alike = [
            other for other in header
            if other not in ("__metadata__", name) and header[other]["shape"] == header[name]["shape"]
            and header[other]["dtype"] == header[name]["dtype"]
        ]  # fmt: skip
        if not alike:
            return None
        other = target.chance.choice(alike)
        pair = header[name], header[other]
        pair[0]["data_offsets"], pair[1]["data_offsets"] = pair[1]["data_offsets"], pair[0]["data_offsets"]
        return f"{name} and {other}"

    return _edited(target, change)


def odd_offsets(target: Target) -> str | None:
    def change(header: Header) -> str:
        name = _one(target, header)
        odd: Any = (
            None,
            [],
            [0],
            [0, 1, 2],
            ["0", "8"],
            [0.0, 8.0],
            [True, 8],
            [-8, 0],
            [0, 2**64],
            [0, 10**400],
            "0:8",
        )
        header[name]["data_offsets"] = target.chance.choice(odd)
        return f"{name}: {header[name]['data_offsets']}"[:80]

    return _edited(target, change)


def other_dtype(target: Target) -> str | None:
    def change(header: Header) -> str:
        name = _one(target, header)
        header[name]["dtype"] = target.chance.choice(DTYPES)
        return f"{name}: {header[name]['dtype']}"

    return _edited(target, change)


def other_shape(target: Target) -> str | None:
    def change(header: Header) -> str:
        name = _one(target, header)
        shape = header[name]["shape"]
        odd: Any = (
            [*shape, 1], shape[::-1], [it + 1 for it in shape], [-it for it in shape], [], [2**40, 2**40], None,
            [float(it) for it in shape], [str(it) for it in shape], [0], [1, *shape], [True],
        )  # fmt: skip
        header[name]["shape"] = target.chance.choice(odd)
        return f"{name}: {shape} is {header[name]['shape']}"

    return _edited(target, change)


def drop_tensor(target: Target) -> str | None:
    def change(header: Header) -> str:
        name = _one(target, header)
        del header[name]
        return name

    return _edited(target, change)


def rename_tensor(target: Target) -> str | None:
    def change(header: Header) -> str:
        name = _one(target, header)
        new = target.chance.choice((name + ".x", name.upper(), "", "\x1b[31m" + name, "../" + name, "x" * 10_000))
        header[new] = header.pop(name)
        return f"{name} to {new!r}"[:100]

    return _edited(target, change)


def odd_metadata(target: Target) -> str | None:
    def change(header: Header) -> str:
        odd: Any = ({"a": 1}, {"a": None}, {"a": {"b": "c"}}, [], "text", None, 3, {"": ""}, {"format": "tf"},
               {"a": "x" * 10**6}, {"a": "\x1b[31m"}, {"vq": "{"}, {"lora_adapter_metadata": "[" * 1000})  # fmt: skip
        header["__metadata__"] = target.chance.choice(odd)
        return f"{header['__metadata__']!r}"[:60]

    return _edited(target, change)


def tensor_twice(target: Target) -> str:
    header, data = _read(target)
    name = _one(target, header)
    _write(target, json.dumps(header)[:-1] + "," + json.dumps({name: header[name]})[1:], data)
    return name


def header_as_json(target: Target) -> str | None:
    """One of the mutations of JSON, on the header."""
    header, data = _read(target)
    target.replace(json.dumps(header).encode())
    name = target.chance.choice(list(json_text.MUTATIONS))
    said = json_text.MUTATIONS[name](target)
    if said is not None:
        text = target.path.read_bytes()
        target.replace(len(text).to_bytes(8, "little") + text + data)
    return said and f"{name}, {said}"


def header_length(target: Target) -> str:
    content = target.path.read_bytes()
    length = target.chance.choice(
        (0, 1, 7, len(content), 2**40, 2**63, 2**64 - 1, int.from_bytes(content[:8], "little") + 8)
    )
    target.replace(length.to_bytes(8, "little") + content[8:])
    return f"{length}"


def special_values(target: Target) -> str | None:
    header, data = _read(target)
    tensors = {name: it for name, it in header.items() if name != "__metadata__" and it["shape"]}
    floats = [name for name, it in tensors.items() if it["dtype"] in SPECIALS and len(set(it["data_offsets"])) == 2]
    if not floats:
        return None
    name = target.chance.choice(floats)
    kind, (begin, end) = header[name]["dtype"], header[name]["data_offsets"]
    which = target.chance.randrange(3)
    special, count = bytes.fromhex(SPECIALS[kind][which]), (end - begin) // SIZES[kind]
    changed = bytearray(data)
    first = target.chance.randrange(count)
    number = target.chance.choice((1, count - first))
    where = begin + first * SIZES[kind]
    changed[where : where + number * SIZES[kind]] = special * number
    _write(target, header, bytes(changed))
    return f"{number} × {('NaN', 'infinity', 'the largest number')[which]} in {name}"


def zeros(target: Target) -> str:
    header, data = _read(target)
    name = _one(target, header)
    begin, end = header[name]["data_offsets"]
    _write(target, header, data[:begin] + bytes(end - begin) + data[end:])
    return name


MUTATIONS: dict[str, Mutation] = {
    "offsets reversed": reversed_offsets,
    "offsets overlap": overlapping_offsets,
    "offsets shifted": shifted_offsets,
    "offsets exchanged": exchanged_offsets,
    "odd offsets": odd_offsets,
    "another dtype": other_dtype,
    "another shape": other_shape,
    "tensor dropped": drop_tensor,
    "tensor renamed": rename_tensor,
    "tensor twice": tensor_twice,
    "odd metadata": odd_metadata,
    "header as JSON": header_as_json,
    "header's length": header_length,
    "NaN, infinity, huge": special_values,
    "zeros": zeros,
}
