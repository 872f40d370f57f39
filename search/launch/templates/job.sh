#!/bin/bash
# {{ name }} on a Ray cluster that runs already. Give it again to continue.
set -euo pipefail

ray job submit --address {{ m.address | quoted }} --no-wait \
    --entrypoint-num-cpus 0 -- \
    {{ command }} --address auto
