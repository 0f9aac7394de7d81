#!/usr/bin/env bash
# Makes a video with the checkpoint beside this script, in LightX2V.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: run_lightx2v.sh --model DIR --lightx2v DIR --prompt TEXT [--image FILE [--last-image FILE]] [options]

  --model DIR             the native Wan model: text encoder, tokenizer, VAE, config and, for Wan 2.1 image-to-video, CLIP
  --lightx2v DIR          a clone of LightX2V
  --prompt TEXT           what the video shows
  --image FILE            its first frame (image-to-video)
  --last-image FILE       its last frame (first and last frame; Wan 2.2 image-to-video)
  --reference FILES       images of what should appear in it, with commas between them (VACE)
  --video FILE            the video that it is made over (VACE)
  --mask FILE             what of that is made anew: a video, white where (VACE)
  --negative-prompt TEXT  what it should not show
  --scheme BACKEND        the kernels: the name of a file in run_configs (default: int8-vllm or fp8-vllm)
  --run-config FILE       an edited copy of a file in run_configs, in the place of --scheme
  --output FILE           the video; must not exist (default: lightx2v.mp4)
  --seed N                default: 42
  --python PROGRAM        Python with LightX2V's requirements (default: python3)

Steps, size and frames stand in run_configs/BACKEND.json; copy one, edit the copy and give it as --run-config.
TEXT
}

die() {
    printf 'run_lightx2v.sh: %s\n' "$1" >&2
    exit 2
}

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
model='' lightx2v='' prompt='' negative_prompt='' scheme='' run_config=''
image='' last_image='' reference='' video='' mask=''
output=lightx2v.mp4 seed=42 python=python3

while (($#)); do
    case $1 in
        -h | --help)
            usage
            exit 0
            ;;
        --model | --lightx2v | --prompt | --image | --last-image | --reference | --video | --mask | \
            --negative-prompt | --scheme | --run-config | --output | --seed | --python)
            (($# > 1)) || die "$1 needs a value."
            name=${1#--}
            printf -v "${name//-/_}" '%s' "$2"
            shift 2
            ;;
        *) die "there is no option $1; see --help." ;;
    esac
done

[[ -n $model ]] || die "give --model, the folder of the native Wan model that this checkpoint was made from."
[[ -d $model ]] || die "--model $model is not a folder."
encoder=models_t5_umt5-xxl-enc-bf16.pth
[[ -e $model/$encoder || -e $model/original/$encoder ]] ||
    die "--model $model has no $encoder: give the native model (not its diffusers version)."
[[ -n $lightx2v ]] || die "give --lightx2v, the folder of a LightX2V clone."
[[ -f $lightx2v/lightx2v/infer.py ]] || die "--lightx2v $lightx2v is not a LightX2V clone: it has no lightx2v/infer.py."
lightx2v=$(cd -- "$lightx2v" && pwd)
command -v -- "$python" >/dev/null || die "--python $python is not a program."
[[ -n $prompt ]] || die "give --prompt, the text that the video shows."
[[ $seed =~ ^[0-9]+$ ]] || die "--seed $seed is not a whole number."
[[ -z $image || -f $image ]] || die "--image $image is not a file."
[[ -z $last_image || -f $last_image ]] || die "--last-image $last_image is not a file."
[[ -z $video || -f $video ]] || die "--video $video is not a file."
[[ -z $mask || -f $mask ]] || die "--mask $mask is not a file."
[[ -z $mask || -n $video ]] || die "--mask $mask is for a video: give --video."
IFS=, read -r -a references <<<"$reference"
for file in ${references[@]+"${references[@]}"}; do
    [[ -f $file ]] || die "--reference $file is not a file."
done
[[ ! -e $output ]] || die "--output $output exists: name another file or remove it."
[[ -d $(dirname -- "$output") ]] || die "--output $output is in a folder that does not exist."

# Releases before October 2025 know the kernels as mm_config.
configs=$here/run_configs
if grep -q mm_config "$lightx2v/lightx2v/utils/set_config.py"; then
    configs=$configs/old
fi
if [[ -z $scheme ]]; then
    scheme=int8-vllm
    [[ -e $here/run_configs/int8-vllm.json ]] || scheme=fp8-vllm
fi
if [[ -z $run_config ]]; then
    run_config=$configs/$scheme.json
    [[ -f $run_config ]] ||
        die "--scheme $scheme has no $run_config: choose one that is there, or use the newest LightX2V."
fi
[[ -f $run_config ]] || die "--run-config $run_config is not a file."

# A kernel that is missing shows only when the first linear is computed, minutes later.
kernels=0
said=$("$python" - "$run_config" 2>&1 >/dev/null <<'PYTHON'
PROBE
PYTHON
) || kernels=$?
said=${said##*$'\n'}
((kernels == 0)) || die "$said"
[[ $said != warning:* ]] || printf 'run_lightx2v.sh: %s\n' "$said" >&2

config=$(mktemp)
trap 'rm -f -- "$config"' EXIT
model_and_task=$("$python" - "$run_config" "$here" "$seed" "$image" "$last_image" "$config" <<'PYTHON'
import json
import sys

template, checkpoint, seed, image, last_image, target = sys.argv[1:]
with open(template, encoding="utf-8") as file:
    config = json.load(file)
for key, value in config.items():
    if key.endswith("_quantized_ckpt"):
        config[key] = value.replace("/path/to/this/checkpoint", checkpoint)
if "seed" in config:
    config["seed"] = int(seed)
if config["model_cls"] == "wan2.2":  # one model for both tasks
    config["task"] = "i2v" if image else "t2v"
if config["model_cls"].startswith("wan2.2_moe") and config["task"] == "i2v" and last_image:
    config["task"] = "flf2v"  # the same model: it has no image encoder that would know of one frame alone
with open(target, "w", encoding="utf-8") as file:
    json.dump(config, file)
print(config["model_cls"], config["task"])
PYTHON
)
task=${model_and_task#* }
[[ $task != i2v || -n $image ]] || die "this checkpoint animates an image: give --image."
[[ $task != flf2v || (-n $image && -n $last_image) ]] ||
    die "this checkpoint goes from a first frame to a last: give --image and --last-image."
[[ $task == flf2v || -z $last_image ]] || die "this checkpoint knows no last frame: leave --last-image out."
[[ $task == i2v || $task == flf2v || -z $image ]] ||
    die "this checkpoint does not animate an image: leave --image out."
[[ $task == vace || -z $reference$video ]] ||
    die "this checkpoint is not steered by videos or references: leave --video, --mask and --reference out."

arguments=(
    --model_cls "${model_and_task% *}" --task "$task" --model_path "$model" --config_json "$config"
    --prompt "$prompt" --negative_prompt "$negative_prompt"
)
[[ -z $image ]] || arguments+=(--image_path "$image")
[[ -z $last_image ]] || arguments+=(--last_frame_path "$last_image")
[[ -z $reference ]] || arguments+=(--src_ref_images "$reference")
[[ -z $video ]] || arguments+=(--src_video "$video")
[[ -z $mask ]] || arguments+=(--src_mask "$mask")
if grep -q -- --save_result_path "$lightx2v/lightx2v/infer.py"; then
    arguments+=(--save_result_path "$output" --seed "$seed")
else
    arguments+=(--save_video_path "$output")
fi

# Scales and gains of the checkpoint are exact in bfloat16; old releases leave the type open.
DTYPE=BF16 TOKENIZERS_PARALLELISM=false PYTHONPATH=$lightx2v${PYTHONPATH:+:$PYTHONPATH} \
    "$python" -m lightx2v.infer "${arguments[@]}"
