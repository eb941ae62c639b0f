#!/bin/bash
# Submits the @TASKS@ tasks of a plan to Slurm:  bash THIS_FILE [OPTIONS OF SBATCH]
# One job a task, in arrays; an array begins when those that it needs have ended. A task that
# was killed is begun again, three times at most, and by Slurm where its node failed. What is
# done already is not done again: this file may be submitted as often as one likes.
set -euo pipefail

plan=@PLAN@
program=${IRISGPU:-@PROGRAM@}
logs=${IRISGPU_LOGS:-$(dirname "$plan")/slurm-logs}
mkdir -p "$logs"
options=("$@")
# As the jobs' shells read them, and as Slurm reads the names of logs.
plan_word=$(printf '%q' "$plan")
program_word=$(printf '%q' "$program")
logs_name=${logs//%/%%}
after=()
wave=()

# submit BASE COUNT: the lines BASE + 1 to BASE + COUNT of the plan.
submit() {
    wave+=("$(sbatch --parsable --job-name=irisgpu --requeue --open-mode=append @GRES@ --cpus-per-task=@CPUS@ \
        --array="1-$2@AT_ONCE@" --output="$logs_name/%A_%a.log" "${after[@]}" "${options[@]}" <<JOB
#!/bin/bash
for attempt in 1 2 3 4; do
    $program_word reduce --quiet --threads "\$SLURM_CPUS_PER_TASK" --plan $plan_word --only "\$(($1 + SLURM_ARRAY_TASK_ID))"
    code=\$?
    [ "\$code" -le 128 ] && break
    echo "attempt \$attempt was killed (\$code)"
done
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
echo "when they have ended:  $program_word status $plan_word"
