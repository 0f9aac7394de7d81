"""Damage to the entry in the folder: the file is gone, or something else lies in its place or beside it."""

import os
import shutil
import socket
from contextlib import chdir

from campaign.mutations.target import Mutation, Target, exchange


def remove(target: Target) -> str:
    target.path.unlink()
    return "removed"


def folder_in_its_place(target: Target) -> str:
    target.path.unlink()
    target.path.mkdir()
    return "an empty folder"


def fifo(target: Target) -> str:
    target.path.unlink()
    os.mkfifo(target.path)
    return "a FIFO that nobody writes"


def listening_socket(target: Target) -> str:
    target.path.unlink()
    with chdir(target.path.parent), socket.socket(socket.AF_UNIX) as opened:
        opened.bind(target.path.name[:90])
    return "a socket"


def link_loop(target: Target) -> str:
    target.path.unlink()
    target.path.symlink_to(target.path.name)
    return "a link to itself"


def dangling_link(target: Target) -> str:
    target.path.unlink()
    target.path.symlink_to("nowhere")
    return "a link to nothing"


def link_out(target: Target) -> str:
    """As a hub's cache does."""
    blob = target.root.parent / ".home" / f"blob-{target.chance.randrange(1 << 32):x}"
    shutil.move(target.path, blob)
    target.path.symlink_to(blob)
    return "a link to the same file elsewhere"


def link_to_system_file(target: Target) -> str:
    there = target.chance.choice(("/etc/hostname", "/proc/self/status", "/proc/self/mem"))
    target.path.unlink()
    target.path.symlink_to(there)
    return f"a link to {there}"


def device(target: Target) -> str:
    there = target.chance.choice(("/dev/zero", "/dev/null", "/dev/full", "/dev/urandom"))
    target.path.unlink()
    target.path.symlink_to(there)
    return f"a link to {there}"


def sparse(target: Target) -> str:
    size = target.chance.choice((1 << 31, 1 << 36))
    target.path.unlink()
    with target.path.open("wb") as file:
        file.truncate(size)
    return f"{size >> 30} GiB of zeros that take no room"


def unreadable(target: Target) -> str:
    target.path.chmod(0)
    return "mode 000"


def unreadable_folder(target: Target) -> str | None:
    if target.path == target.root:
        return None
    target.path.parent.chmod(target.chance.choice((0, 0o444, 0o111)))
    return "the mode of its folder"


def long_name(target: Target) -> str:
    target.path.rename(target.path.with_name(("x" * 300)[: 255 - len(target.path.suffix)] + target.path.suffix))
    return "a name of 255 characters"


def odd_name(target: Target) -> str:
    name = target.chance.choice(("a\nb", "\x1b[31mred", "-rf", "name with spaces", "ü" * 100, "'\"", "%s{0}"))
    target.path.rename(target.path.with_name(name + target.path.suffix))
    return f"renamed to {name!r}"


def odd_neighbour(target: Target) -> str:
    name = target.chance.choice(("a\nb", "\x1b[31mred", "-rf", "two words"))
    shutil.copy(target.path, target.path.with_name(name + target.path.suffix))
    return f"a copy named {name!r}"


def other_case(target: Target) -> str | None:
    other = target.path.with_name(target.path.name.swapcase())
    if other.exists():
        return None
    shutil.copy(target.path, other)
    return f"a copy named {other.name}"


def wrong_case(target: Target) -> str:
    target.path.rename(target.path.with_name(target.path.name.swapcase()))
    return "renamed in the other case"


def litter(target: Target) -> str | None:
    """What systems and tools leave beside files."""
    if target.path == target.root:
        return None
    name = target.chance.choice(
        (".DS_Store", "Thumbs.db", f"._{target.path.name}", ".cache/huggingface/x", "README.md")
    )
    beside = target.path.parent / name
    if beside.exists():
        return None
    beside.parent.mkdir(parents=True, exist_ok=True)
    beside.write_bytes(b"\0\1\2 litter")
    return f"{name} beside it"


def swap(target: Target) -> str | None:
    other = target.sibling()
    if other is None:
        return None
    exchange(target.path, other)
    return f"with {other.name}"


def copy_of_sibling(target: Target) -> str | None:
    other = target.sibling()
    if other is None:
        return None
    target.replace(other.read_bytes())
    return f"the content of {other.name}"


def copy_under_new_name(target: Target) -> str | None:
    other = target.path.with_name(f"{target.path.stem}-copy{target.path.suffix}")
    if other.exists():
        return None
    shutil.copy(target.path, other)
    return f"a copy named {other.name}"


MUTATIONS: dict[str, Mutation] = {
    "removed": remove,
    "a folder in its place": folder_in_its_place,
    "a FIFO in its place": fifo,
    "a socket in its place": listening_socket,
    "a link to itself": link_loop,
    "a dangling link": dangling_link,
    "a link out of the folder": link_out,
    "a link to a system file": link_to_system_file,
    "a device in its place": device,
    "a sparse file": sparse,
    "unreadable": unreadable,
    "in an unreadable folder": unreadable_folder,
    "a name of 255 characters": long_name,
    "an odd name": odd_name,
    "an odd neighbour": odd_neighbour,
    "a copy in the other case": other_case,
    "the other case": wrong_case,
    "litter beside it": litter,
    "swapped with a sibling": swap,
    "the content of a sibling": copy_of_sibling,
    "a copy beside it": copy_under_new_name,
}
"""A name of 300 characters cannot exist: outputs are given one in `campaign.odd_words`."""
