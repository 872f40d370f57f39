"""The metrics of `cl_core.metrics` as SQL, for all runs at once.

Every query of QUERIES gives the columns run, split, classifier and `primary`, which tells the method's own
rule, and more as its comment says. Queries read the table `confusion` and two that tell the task of
a class. `numbering` has a row a run: its pair of classes (t, p) has the number `first` + `classes` t + p.
`pairs` has a row a number: task and answered_task, those of t and of p. Numbers have no gap, so that DuckDB
joins them as an array. A metric is null where `cl_core.metrics` has None or nan.
"""

from __future__ import annotations

_KEY = 'run, split, classifier, "primary"'

QUERIES: dict[str, str] = {
    # Rows of a task that were answered with a class of another: task_counts(). Zero counts are left out.
    "task_counts": """
        select numbering.run, split, classifier, "primary", after_task, task, answered_task,
            sum(count)::bigint as count,
            coalesce(sum(count) filter (true_class = predicted_class), 0)::bigint as correct
        from confusion
        join numbering on numbering.run = confusion.run
        join pairs on pair = first + classes * true_class + predicted_class
        where true_class < classes and predicted_class < classes
        group by all""",
    # One row after each task: step_accuracy(), recency_bias() and what else follows from one matrix.
    "task_metrics": f"""
        select *, old_to_new - new_to_old as asymmetry, abs(new_accuracy - old_accuracy) as old_new_gap,
            case when old_accuracy is null then null when old_accuracy = 0 or new_accuracy = 0 then 0
                else 2 * old_accuracy * new_accuracy / (old_accuracy + new_accuracy) end as harmonic_mean
        from (
            select {_KEY}, after_task, n::bigint as n,
                correct / nullif(n, 0) as step_accuracy,
                of_task / nullif(n, 0) as task_accuracy,
                answered_new / nullif(n, 0) as recency_bias,
                answered_new / nullif(new, 0) as recency_ratio,
                (answered_new - right_new) / nullif(n - new, 0) as old_to_new,
                case when after_task > 0 then (new - right_new) / nullif(new, 0) end as new_to_old,
                (correct - correct_new) / nullif(n - new, 0) as old_accuracy,
                correct_new / nullif(new, 0) as new_accuracy
            from (
                select {_KEY}, after_task, sum(count) as n, sum(correct) as correct,
                    coalesce(sum(count) filter (task = answered_task), 0) as of_task,
                    coalesce(sum(count) filter (task = after_task), 0) as new,
                    coalesce(sum(count) filter (answered_task = after_task), 0) as answered_new,
                    coalesce(sum(count) filter (task = after_task and answered_task = after_task), 0)
                        as right_new,
                    coalesce(sum(correct) filter (task = after_task), 0) as correct_new
                from task_counts group by all))""",
    # One row a pair of tasks, task <= after_task: R[after_task][task] of accuracy_matrix(), over n rows.
    "accuracy_matrix": f"""
        select {_KEY}, after_task, task, coalesce(n, 0)::bigint as n, correct / nullif(n, 0) as accuracy
        from (
            select {_KEY}, after_task, unnest(range(after_task + 1)) as task
            from task_metrics)
        left join (
            select {_KEY}, after_task, task, sum(count) as n, sum(correct) as correct
            from task_counts group by all) using ({_KEY}, after_task, task)""",
    # One row a pair of tasks after each task: C[task][answered_task] of task_confusion(). Zeros are left out.
    "task_confusion": f"""
        select {_KEY}, after_task, task, answered_task,
            count / sum(count) over (partition by {_KEY}, after_task, task) as share
        from task_counts""",
    # One row: summary(), and after the last task done the columns of task_metrics.
    "run_metrics": f"""
        with ends as (select {_KEY}, max(after_task) as last from task_metrics group by all),
        tasks as (
            select {_KEY}, last, task,
                max(accuracy) filter (after_task = last) as final,
                max(accuracy) filter (after_task = task) as first,
                case when count(accuracy) = count(*) then max(accuracy) filter (after_task < last) end as best
            from accuracy_matrix join ends using ({_KEY}) group by all),
        over_tasks as (
            select {_KEY}, last,
                case when count(best) filter (task < last) = any_value(last)
                    then avg(best - final) filter (task < last) end as forgetting,
                case when count(final - first) filter (task < last) = any_value(last)
                    then avg(final - first) filter (task < last) end as backward_transfer,
                case when count(first) = count(*) then avg(first) end as learning_accuracy,
                case when count(final) = count(*) then avg(final) end as last_accuracy_task_mean
            from tasks group by all),
        over_time as (
            select {_KEY},
                case when count(mean) = count(*) then avg(mean) end as average_incremental_accuracy_task_mean
            from (
                select {_KEY}, after_task,
                    case when count(accuracy) = count(*) then avg(accuracy) end as mean
                from accuracy_matrix group by all) group by all),
        steps as (
            select {_KEY}, count(*) as tasks_done,
                case when count(step_accuracy) = count(*) then avg(step_accuracy) end
                    as average_incremental_accuracy,
                case when count(step_accuracy) filter (after_task > 0) = count(*) - 1
                    then avg(step_accuracy) filter (after_task > 0) end
                    as average_incremental_accuracy_without_first,
                max(step_accuracy) filter (after_task = 0) as first_task_accuracy
            from task_metrics group by all)
        select {_KEY}, tasks_done, average_incremental_accuracy, average_incremental_accuracy_without_first,
            average_incremental_accuracy_task_mean, first_task_accuracy, step_accuracy as last_accuracy,
            last_accuracy_task_mean, forgetting, backward_transfer, old_new_gap, learning_accuracy,
            recency_bias, recency_ratio, old_to_new, new_to_old, asymmetry, harmonic_mean, task_accuracy
        from steps join over_tasks using ({_KEY}) join over_time using ({_KEY})
        join task_metrics using ({_KEY}) where after_task = last""",
}
"""Table -> its query, which reads earlier ones. All others are quick once `task_counts` is kept."""
