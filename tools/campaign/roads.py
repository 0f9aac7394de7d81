"""The commands of the campaign, as users type them, and the inputs that they read.

`BUILT` makes those inputs that commands can make; the others are made by `campaign.inputs`. `ATTACKED` are the command
lines that cases vary. Every word that names an input is one that the command reads, and `# NAME …` adds those that a
recipe or a manifest leads to. An output is always `out`.
"""

import re
import shlex
from dataclasses import dataclass
from functools import cached_property

SIZE = "--height 32 --width 32 --num-frames 5 --device cpu"
SAMPLING = f"--steps 2 {SIZE}"

BUILT = f"""
vq-calib collect --model t2v --prompts prompts {SAMPLING} --tokens 64 -o stats
vq-calib collect --model t2v --prompts prompts {SAMPLING} --tokens 64 --part 1/2 -o part-1
vq-calib collect --model t2v --prompts prompts {SAMPLING} --tokens 64 --part 2/2 -o part-2
vq-algos smooth --model t2v --stats stats -o smoothed
vq-algos quantize --weights smoothed --scheme int8 -o qparams
vq-algos smooth --model t2v --stats stats --target comfyui -o folded
vq-algos quantize --weights folded --scheme int8 --rotate all -o folded-qparams
vq-export lightx2v --weights smoothed --qparams qparams -o lightx2v
vq-export lightx2v --model t2v --scheme fp8 -o lightx2v-fp8
vq-export lightx2v --model vace --scheme int8 -o lightx2v-vace
vq-export lightx2v --model i2v --scheme int8 -o lightx2v-i2v
vq-export lightx2v --model experts --scheme int8 -o lightx2v-experts
vq-export comfyui --weights folded --qparams folded-qparams -o comfyui
vq-export native --weights smoothed --qparams qparams -o own
vq-export diffusers --weights smoothed -o diffusers
vq-export encoders --model encoder-model --scheme int8 -o encoders
vq-eval fake-quant --model t2v --weights smoothed --qparams qparams --prompts prompts {SAMPLING} --no-cache -o videos
vq-infer batch --model t2v --checkpoint lightx2v --prompts prompts {SAMPLING} -o engine
vq-eval compare --reference videos/full --candidate int8=videos/fake-quant -o comparison
vq-eval trajectory --model t2v --weights smoothed --qparams int8=qparams --prompts prompts {SAMPLING} -o trajectory
vq-eval layers --model t2v --weights smoothed --qparams qparams --prompts prompts {SAMPLING} -o layers
vq-wan-tiny prompts --count 1 -o captions
vq-eval fake-quant --model wan-tiny --prompts captions --variants full --steps 1 --device cpu --no-cache -o clips
"""

ATTACKED = f"""
vq-calib collect --model t2v --prompts prompts {SAMPLING} --tokens 64 -o out
vq-calib collect --model i2v --prompts prompts {SAMPLING} --tokens 0 -o out
vq-calib collect --model t2v --lora lora.safetensors:0.8 --prompts prompts {SAMPLING} --tokens 0 -o out
vq-calib collect --recipe recipe.yaml {SIZE} -o out # t2v prompts
vq-calib plan --model t2v --prompts prompts {SAMPLING} --json
vq-calib plan --recipe llmc.yaml {SIZE} # t2v prompts
vq-calib merge part-1 part-2 -o out
vq-calib show stats
vq-algos smooth --model t2v --stats stats -o out
vq-algos smooth --model t2v --stats stats --method auto --scheme int8 -o out
vq-algos smooth --model native --stats stats -o out
vq-algos smooth --model single/model.safetensors --method none -o out
vq-algos smooth --model pth/model.pth --allow-pth --method none -o out
vq-algos smooth --model experts --method none -o out
vq-algos smooth --recipe recipe.yaml --stats stats -o out # t2v prompts
vq-algos smooth --recipe llmc.yaml --stats stats -o out # t2v prompts
vq-algos quantize --weights smoothed --scheme int8 -o out
vq-algos quantize --weights smoothed --stats stats --scheme fp8 --method gptq -o out
vq-algos quantize --weights smoothed --stats stats --scheme int8 --method auto -o out
vq-algos quantize --weights folded --stats stats --scheme int8 --method auto -o out
vq-algos show smoothed
vq-algos show qparams --all
vq-algos show qparams --heat-map out.png
vq-algos sensitivity --weights smoothed --stats stats --json
vq-export lightx2v --weights smoothed --qparams qparams -o out
vq-export lightx2v --model t2v --scheme fp8 -o out
vq-export lightx2v --model native --lora lora.safetensors --scheme int8 -o out
vq-export lightx2v --model experts --scheme int8 -o out
vq-export comfyui --weights folded --qparams folded-qparams -o out
vq-export comfyui --model t2v --lora lora.safetensors:0.5 --scheme fp8 -o out
vq-export native --weights smoothed --qparams qparams -o out
vq-export verify own --model t2v --json
vq-export diffusers --weights smoothed -o out
vq-export diffusers --checkpoint lightx2v -o out
vq-export diffusers --model native -o out
vq-export encoders --model encoder-model --scheme int8 -o out
vq-export encoders --t5 t5.safetensors --clip clip.pth --scheme fp8 -o out
vq-export verify lightx2v --model t2v --json
vq-export verify lightx2v-fp8 --json
vq-export verify comfyui --model t2v --json
vq-export show comfyui
vq-export show lightx2v
vq-export comfyui --model single/model.safetensors --scheme int8 -o out
vq-export show lightx2v-fp8/block_0.safetensors --json
vq-eval fake-quant --model t2v --weights smoothed --qparams qparams --prompts prompts {SAMPLING} -o out
vq-eval trajectory --model t2v --weights smoothed --qparams int8=qparams --prompts prompts {SAMPLING} -o out
vq-eval layers --model t2v --weights smoothed --qparams qparams --prompts prompts {SAMPLING} -o out
vq-eval compare --reference videos/full --candidate videos/fake-quant --gate gate.yaml --metrics psnr,ssim -o out
vq-eval report --comparison comparison --trajectory trajectory --layers layers -o out # videos
vq-infer t2v --model t2v --checkpoint lightx2v --prompt kite {SAMPLING} -o out.mkv
vq-infer i2v --model i2v --checkpoint lightx2v-i2v --image image.png --prompt kite {SAMPLING} -o out.mp4
vq-infer t2v --model t2v --checkpoint comfyui --prompt kite {SAMPLING} -o out.mkv
vq-infer t2v --model t2v --checkpoint own --prompt kite {SAMPLING} -o out.mkv
vq-infer vace --model vace --checkpoint lightx2v-vace --reference image.png --video video.mkv --mask mask.png \
 --prompt kite {SAMPLING} -o out.mkv
vq-infer t2v --model experts --checkpoint lightx2v-experts --prompt kite {SAMPLING} -o out.mkv
vq-infer batch --model t2v --checkpoint lightx2v --prompts prompts {SAMPLING} -o out
vq-wan-tiny prompts --count 1 -o out
vq-wan-tiny grade clips/full --prompts captions --json
"""

WITHOUT_FILES = {"vq-infer doctor"}
"""Commands that neither read nor write a file of the user's."""

TOO_SLOW = {"vq-infer bench"}
"""Commands that take a minute on a CPU even if all is well: this one first measures the machine."""

RESUMED = {"merge", "collect", "smooth", "quantize", "batch", "fake-quant", "trajectory", "layers"}


@dataclass(frozen=True)
class Road:
    """One command line, its words as typed, and the inputs that it reads besides those it names."""

    line: str
    besides: tuple[str, ...] = ()

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The command and its arguments."""
        return tuple(shlex.split(self.line))

    @property
    def command(self) -> str:
        """Such as `vq-calib collect`."""
        return " ".join(self.words[:2])

    @property
    def output(self) -> str | None:
        """What it writes, a name in the working directory."""
        return next((word for word in self.words if re.fullmatch(r"out(\.\w+)?", word)), None)

    @property
    def resumable(self) -> bool:
        """Whether the command has `--resume`."""
        group, name = self.words[:2]
        return name in RESUMED or (group == "vq-export" and self.output is not None)

    def reads(self, inputs: set[str]) -> list[str]:
        """The names of those `inputs` that it reads."""
        named = [re.sub(r"^\w+=|:[\d.]+$", "", word).split("/")[0] for word in self.words[2:]]
        return sorted({*named, *self.besides} & inputs)


def roads(text: str = ATTACKED) -> list[Road]:
    """The command lines of `text`."""
    found = []
    for line in text.strip().splitlines():
        command, _, besides = line.partition(" # ")
        found.append(Road(" ".join(command.split()), tuple(besides.split())))
    return found
