"""Damage to bytes, whatever the file holds."""

from campaign.mutations.target import Mutation, Target


def flip_bit(target: Target) -> str | None:
    content = bytearray(target.path.read_bytes())
    if not content:
        return None
    where, bit = target.place(len(content)), target.chance.randrange(8)
    content[where] ^= 1 << bit
    target.replace(bytes(content))
    return f"bit {bit} of byte {where}"


def overwrite(target: Target) -> str | None:
    content = bytearray(target.path.read_bytes())
    if not content:
        return None
    where, length = target.place(len(content)), target.chance.choice((1, 2, 8, 64))
    content[where : where + length] = target.chance.randbytes(min(length, len(content) - where))
    target.replace(bytes(content))
    return f"{length} bytes from {where}"


def truncate(target: Target) -> str | None:
    content = target.path.read_bytes()
    if not content:
        return None
    kept = target.place(len(content))
    target.replace(content[:kept])
    return f"to {kept} of {len(content)} bytes"


def append(target: Target) -> str:
    added = target.chance.choice((b"\0", b"\n", b"}", b"\xff" * 64, b"\0" * 4096, b" " * 100))
    target.replace(target.path.read_bytes() + added)
    return f"{len(added)} times {added[:1]!r}"


def zero_page(target: Target) -> str | None:
    content = bytearray(target.path.read_bytes())
    if not content:
        return None
    size = target.chance.choice((16, 512, 4096))
    where = target.place(len(content)) // size * size
    content[where : where + size] = bytes(min(size, len(content) - where))
    target.replace(bytes(content))
    return f"{size} bytes from {where}"


def empty(target: Target) -> str:
    target.replace(b"")
    return "no bytes"


def insert(target: Target) -> str:
    content = target.path.read_bytes()
    where = target.place(len(content) + 1)
    target.replace(content[:where] + target.chance.randbytes(1) + content[where:])
    return f"a byte at {where}"


def drop(target: Target) -> str | None:
    content = target.path.read_bytes()
    if not content:
        return None
    where = target.place(len(content))
    target.replace(content[:where] + content[where + 1 :])
    return f"the byte at {where}"


def lines_of_dos(target: Target) -> str | None:
    content = target.path.read_bytes()
    if b"\n" not in content or b"\r" in content or b"\0" in content:
        return None
    target.replace(content.replace(b"\n", b"\r\n"))
    return "every end of a line"


MUTATIONS: dict[str, Mutation] = {
    "flip a bit": flip_bit,
    "overwrite bytes": overwrite,
    "truncate": truncate,
    "append": append,
    "zero a page": zero_page,
    "empty": empty,
    "insert a byte": insert,
    "drop a byte": drop,
    "ends of lines of DOS": lines_of_dos,
}
