#!/bin/bash
# {{ name }} on {{ m.nodes }} nodes: sbatch this file. For any Ray. Submit it again to continue.
#SBATCH --job-name={{ name }}
#SBATCH --nodes={{ m.nodes }}
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task={{ m.cpus }}
{% if m.gpus %}
#SBATCH --gpus-per-node={{ m.gpus }}
{% endif %}
#SBATCH --mem={{ m.memory_gb }}G
#SBATCH --time={{ time }}
#SBATCH --signal=B:USR1@{{ warning }}
#SBATCH --output={{ name }}-%j.out
set -euo pipefail

export SRUN_CPUS_PER_TASK={{ m.cpus }}  # since SLURM 22.05, srun does not take it from sbatch
mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${hosts[0]}
port=$((20000 + SLURM_JOB_ID % 10000))
export RAY_AUTH_MODE=token  # all nodes read it from the home folder; a Ray that knows none needs none
[ -s "$HOME/.ray/auth_token" ] || ray get-auth-token --generate > /dev/null || true
start=(ray start {{ start }} --block)

srun --nodes=1 --ntasks=1 -w "$head" "${start[@]}" --head --node-ip-address="$head" --port="$port" &
for _ in $(seq 120); do  # until the head answers
    (exec 3<> "/dev/tcp/$head/$port") 2> /dev/null && break
    sleep 1
done
for host in "${hosts[@]:1}"; do
    srun --nodes=1 --ntasks=1 -w "$host" "${start[@]}" --address "$head:$port" &
done

# SLURM's warning reaches the command, which ends running tasks and says how to continue.
driver=
trap '[ -z "$driver" ] || kill -USR1 "$driver" 2> /dev/null || true' USR1
{{ command }} --address "$head:$port" &
driver=$!
wait "$driver" || true  # the warning ends this wait, maybe when the command has ended as well
code=0
wait "$driver" || code=$?
exit "$code"
