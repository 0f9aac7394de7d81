"""Draw the pictures of the prompt sets and write both sets to where vq-core ships them: `make prompt-sets`.

The same versions of NumPy and Pillow give the same files.
"""

import json
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path

from prompt_sets import calibration, evaluation
from prompt_sets.entry import Drawn, Entry
from vq_core.recipes.named_prompts import FOLDER
from vq_core.sampling.prompts import SAMPLES_FILE

QUALITY = 85
SETS: dict[str, tuple[Entry, ...]] = {"calibration": calibration.ENTRIES, "evaluation": evaluation.ENTRIES}


def seed_of(entry: Entry) -> int:
    return zlib.crc32(entry.name.encode())


def file_name(entry: Entry) -> str:
    """Drawings with hard edges are PNGs, so that JPEG does not blur what is written on them."""
    return f"{entry.name}.png" if is_line_art(entry) else f"{entry.name}.jpg"


def is_line_art(entry: Entry) -> bool:
    return isinstance(entry, Drawn) and entry.name in ("ink_house", "charcoal_tower")


def write_set(entries: Sequence[Entry], folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    for entry in entries:
        picture = entry.picture(seed_of(entry))
        if is_line_art(entry):
            picture.quantize(32).save(folder / file_name(entry), optimize=True)
        else:
            picture.save(folder / file_name(entry), quality=QUALITY, optimize=True)
    samples = [
        {"image": file_name(entry), "prompt": entry.prompt, "negative_prompt": entry.negative} for entry in entries
    ]
    text = json.dumps(samples, indent=1, ensure_ascii=False)
    (folder / SAMPLES_FILE).write_text(text + "\n", encoding="utf-8")


def main() -> None:
    for name, entries in SETS.items():
        write_set(entries, FOLDER / name)
        size = sum(path.stat().st_size for path in (FOLDER / name).iterdir())
        print(f"{FOLDER / name}: {len(entries)} prompts, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
