#!/bin/bash
# {{ name }} on {{ m.nodes }} nodes: sbatch this file. Needs Ray 2.49 or newer. Submit it again to continue.
#SBATCH --job-name={{ name }}
#SBATCH --nodes={{ m.nodes }}
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task={{ m.cpus }}
{% if m.gpus %}
#SBATCH --gpus-per-node={{ m.gpus }}
{% endif %}
#SBATCH --mem={{ m.memory_gb }}G
#SBATCH --time={{ time }}
#SBATCH --output={{ name }}-%j.out
set -euo pipefail

export SRUN_CPUS_PER_TASK={{ m.cpus }}  # since SLURM 22.05, srun does not take it from sbatch
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 10000))
export RAY_AUTH_MODE=token  # all nodes read it from the home folder; a Ray that knows none needs none
[ -s "$HOME/.ray/auth_token" ] || ray get-auth-token --generate > /dev/null || true

# No run starts in the last {{ (warning / 60) | round | int }} minutes, and running tasks end before SLURM ends the job.
until=()
if [ -n "${SLURM_JOB_END_TIME:-}" ]; then
    until=(--set "budget.until=$(date -d "@$((SLURM_JOB_END_TIME - {{ warning }}))" +%Y-%m-%dT%H:%M:%S)")
fi

srun ray symmetric-run --address "$head:$port" --min-nodes {{ m.nodes }} \
    {{ start }} -- \
    {{ command }} --address "$head:$port" "${until[@]}"
