"""The hosts of Vertex AI's machines with GPUs, as far as a container sees them: the driver's own program.

No GPU is here: as where the driver is too old for torch's CUDA, the program names a GPU and a driver, and torch finds
none. The folder is where Google's hosts mount it, and the image has to look for it there:
https://docs.cloud.google.com/kubernetes-engine/docs/how-to/gpus#cuda.
"""

from pathlib import Path

FOLDER = "/usr/local/nvidia"

# Driver and its newest CUDA. T4: CUDA 12.2 (found version 12020), L4: newer, by
# https://github.com/ArthurZizumbo/agrosat-copilot/blob/main/docs/l4_log.md; A100 as the T4, by the audit of November
# 2026. Only the branch of the driver follows from that, not the numbers behind it. Of the others nothing is reported: the
# oldest that can drive them.
OLD, NEW = ("535.247.01", "12.2"), ("580.95.05", "13.0")
DRIVERS = {
    "NVIDIA_TESLA_T4": OLD,
    "NVIDIA_TESLA_A100": OLD,
    "NVIDIA_A100_80GB": OLD,
    "NVIDIA_L4": NEW,
    "NVIDIA_B200": ("570.86.15", "12.8"),
    "NVIDIA_GB200": ("570.86.15", "12.8"),
    "NVIDIA_RTX_PRO_6000": ("570.86.15", "12.8"),
}
NAMES = {
    "NVIDIA_TESLA_T4": ("Tesla T4", 15360),
    "NVIDIA_TESLA_A100": ("NVIDIA A100-SXM4-40GB", 40960),
    "NVIDIA_A100_80GB": ("NVIDIA A100-SXM4-80GB", 81920),
    "NVIDIA_L4": ("NVIDIA L4", 23034),
    "NVIDIA_H100_80GB": ("NVIDIA H100 80GB HBM3", 81559),
}

# For bash, which both the stage's smallest image and the project's have. What it does not know it refuses.
PROGRAM = r"""#!/bin/bash
name="%(name)s" memory=%(memory)d driver="%(driver)s" cuda="%(cuda)s" count=%(count)d
uuid() { printf 'GPU-00000000-0000-0000-0000-%%012d' "$1"; }
if [ $# -eq 0 ]; then
    echo "| NVIDIA-SMI $driver    Driver Version: $driver    CUDA Version: $cuda |"
    for ((i = 0; i < count; i++)); do echo "|  $i  $name    ${memory}MiB |"; done
    exit 0
fi
if [ "$*" = -L ] || [ "$*" = --list-gpus ]; then
    for ((i = 0; i < count; i++)); do echo "GPU $i: $name (UUID: $(uuid $i))"; done
    exit 0
fi
fields="" header=1 units=1 csv=0
for word; do
    case "$word" in
        --query-gpu=*) fields="${word#*=}" ;;
        --format=csv*)
            csv=1
            [[ $word == *,noheader* ]] && header=0
            [[ $word == *,nounits* ]] && units=0
            ;;
        *) echo "Invalid combination of input arguments: $word" >&2; exit 6 ;;
    esac
done
[ -n "$fields" ] && [ $csv -eq 1 ] || { echo "--query-gpu and --format=csv are needed." >&2; exit 6; }
IFS=, read -ra asked <<< "${fields// /}"
join() { local line="$1"; shift; for one; do line+=", $one"; done; echo "$line"; }
[ $header -eq 1 ] && join "${asked[@]}"
for ((i = 0; i < count; i++)); do
    line=()
    for field in "${asked[@]}"; do
        case "$field" in
            index) line+=("$i") ;;
            name | gpu_name) line+=("$name") ;;
            uuid | gpu_uuid) line+=("$(uuid $i)") ;;
            count) line+=("$count") ;;
            driver_version) line+=("$driver") ;;
            memory.total) [ $units -eq 1 ] && line+=("$memory MiB") || line+=("$memory") ;;
            *) echo "Field \"$field\" is not a valid field to query." >&2; exit 2 ;;
        esac
    done
    join "${line[@]}"
done
"""


def options(folder: Path, gpu: str, count: int, driver: tuple[str, str]) -> tuple[str, ...]:
    """Writes the host's program below a folder of this machine; gives the options for `docker run` that mount it.

    Args:
        folder: where the programs of all hosts are kept.
        gpu: such as NVIDIA_L4; "" for a machine that has none.
        count: of its GPUs.
        driver: its version, and that of its newest CUDA.
    """
    if not gpu:
        return ()
    name, memory = NAMES.get(gpu, (gpu.replace("_", " "), 80000))
    values = {"name": name, "memory": memory, "count": count, "driver": driver[0], "cuda": driver[1]}
    host = folder / f"{gpu}-{count}-{driver[0]}"
    program = host / "bin" / "nvidia-smi"
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        host.chmod(0o755)
        program.write_text(PROGRAM % values)
        program.chmod(0o755)
    return ("--volume", f"{host}:{FOLDER}:ro")
