"""The commands that make every artifact of a model, with every method, in both schemes and in every layout."""

ONCE = """
vq-wan-tiny prompts --count 3 --trained -o prompts
vq-calib collect --model MODEL --prompts prompts --steps 4 -o stats
vq-algos smooth --model MODEL --method none -o smoothed-none
vq-algos smooth --model MODEL --stats stats --method smoothquant -o smoothed
vq-algos smooth --model MODEL --stats stats --groups llmc --dtype bf16 -o smoothed-llmc
vq-algos smooth --model MODEL --stats stats --target comfyui -o smoothed-comfyui
vq-algos quantize --weights smoothed-comfyui --stats stats --scheme int8 --method auto -o qparams-comfyui
vq-algos quantize --weights smoothed --scheme fp8 --rounding qtorch -o qparams-qtorch
vq-export comfyui --weights smoothed-comfyui --qparams qparams-comfyui -o comfyui
vq-export diffusers --model MODEL -o diffusers
vq-export diffusers --weights smoothed-comfyui -o diffusers-comfyui
"""

FOR_EACH_SCHEME = """
vq-algos smooth --model MODEL --stats stats --scheme SCHEME --method awq -o smoothed-awq-SCHEME
vq-algos smooth --model MODEL --stats stats --scheme SCHEME --method noise -o smoothed-noise-SCHEME
vq-algos smooth --model MODEL --stats stats --scheme SCHEME --method auto -o smoothed-auto-SCHEME
vq-algos quantize --weights smoothed-none --scheme SCHEME --method rtn -o qparams-none-SCHEME
vq-algos quantize --weights smoothed --stats stats --scheme SCHEME --method rtn -o qparams-rtn-SCHEME
vq-algos quantize --weights smoothed --stats stats --scheme SCHEME --method clip -o qparams-clip-SCHEME
vq-algos quantize --weights smoothed --stats stats --scheme SCHEME --method gptq -o qparams-gptq-SCHEME
vq-algos quantize --weights smoothed-auto-SCHEME --stats stats --scheme SCHEME --method auto -o qparams-auto-SCHEME
vq-export lightx2v --weights smoothed-auto-SCHEME --qparams qparams-auto-SCHEME -o lightx2v-auto-SCHEME
vq-export lightx2v --weights smoothed --qparams qparams-gptq-SCHEME -o lightx2v-gptq-SCHEME
vq-export lightx2v --model MODEL --scheme SCHEME -o lightx2v-rtn-SCHEME
vq-export comfyui --model MODEL --scheme SCHEME -o comfyui-rtn-SCHEME
vq-export diffusers --checkpoint lightx2v-auto-SCHEME -o diffusers-auto-SCHEME
vq-export encoders --model encoders --scheme SCHEME -o encoders-SCHEME
vq-eval fake-quant --model MODEL --weights smoothed-auto-SCHEME --qparams qparams-auto-SCHEME --prompts prompts \
 --variants smoothed,fake-quant --steps 2 --no-cache -o videos-SCHEME
vq-infer i2v --model MODEL --checkpoint lightx2v-auto-SCHEME --image prompts/000.png --prompt cube --steps 2 \
 -o video-SCHEME.mkv
"""


def commands(model: str) -> list[str]:
    """The road of `model`; its paths are relative to one folder, in which `encoders` lies."""
    text = ONCE + "".join(FOR_EACH_SCHEME.replace("SCHEME", scheme) for scheme in ("int8", "fp8"))
    return [line.replace("MODEL", model) for line in text.strip().splitlines() if line]
