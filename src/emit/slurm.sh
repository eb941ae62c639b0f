#!/bin/bash
# Submits the @TASKS@ tasks of a plan to Slurm:  bash THIS_FILE [OPTIONS OF SBATCH]
# One job a task, in arrays; an array begins when the one it needs has ended. A job that was
# killed is queued again, three times at most; what is done already is not done again, so
# that this file may be submitted as often as one likes.
set -euo pipefail

plan=@PLAN@
program=${IRISGPU:-@PROGRAM@}
logs=${IRISGPU_LOGS:-$(dirname "$plan")/slurm-logs}
mkdir -p "$logs"
options=("$@")
after=()
wave=()

# submit BASE COUNT: the lines BASE + 1 to BASE + COUNT of the plan.
submit() {
    wave+=("$(sbatch --parsable --job-name=irisgpu --requeue --open-mode=append @GRES@ --cpus-per-task=@CPUS@ \
        --array="1-$2@AT_ONCE@" --output="$logs/%A_%a.log" "${after[@]}" "${options[@]}" <<JOB
#!/bin/bash
"$program" reduce --quiet --threads "\$SLURM_CPUS_PER_TASK" --plan "$plan" --only "\$(($1 + SLURM_ARRAY_TASK_ID))"
code=\$?
if [ "\$code" -gt 128 ] && [ "\${SLURM_RESTART_COUNT:-0}" -lt 3 ]; then
    echo "killed (\$code): queued again"
    scontrol requeue "\${SLURM_ARRAY_JOB_ID}_\${SLURM_ARRAY_TASK_ID}"
    sleep 60
fi
exit "\$code"
JOB
    )")
}

next_wave() {
    after=("--dependency=afterany$(printf ':%s' "${wave[@]%%;*}")")
    echo "submitted: ${wave[*]}"
    wave=()
}

@WAVES@
echo "when they have ended:  $program status $plan"
