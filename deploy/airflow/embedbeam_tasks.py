"""What the DAGs of embedbeam share: where it is installed, the params, and the tasks.

Airflow and TensorFlow do not share an environment: every task starts embedbeam's own Python.
"""

import json
import logging
import subprocess
from datetime import UTC, datetime

from airflow.providers.apache.beam.operators.beam import BeamRunPythonPipelineOperator
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import Param, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

# A checkout of embedbeam with its .venv (`make install`): `airflow variables set embedbeam_home FOLDER`.
HOME = "{{ var.value.get('embedbeam_home', '/srv/embedbeam') }}"
PYTHON = f"{HOME}/.venv/bin/python"
# The day of the run; a run started by hand may have no logical date.
DAY = "(dag_run.logical_date or dag_run.run_after) | ds"
INPUT = f"{{{{ params.input | replace('{{date}}', {DAY}) }}}}"
OUTPUT = f"{{{{ params.output.rstrip('/') }}}}/{{{{ {DAY} }}}}"
CURRENT = "{{ params.output.rstrip('/') }}/current"
CHANGES = f"{{{{ params.output.rstrip('/') }}}}/changes/{{{{ {DAY} }}}}.parquet"
# Of the days that were published, as the task `published` found them.
REUSE = "{{ (ti.xcom_pull('published') or {}).get('reuse') or '' }}"
BEFORE = "{{ (ti.xcom_pull('published') or {}).get('before') or '' }}"

# A retry is a resume: the same command goes on with the shards that are not committed yet. The first one
# comes after [core] default_task_retry_delay, five minutes unless your Airflow says otherwise.
RETRIES = {"retries": 3, "retry_exponential_backoff": 2.0, "max_retry_delay": 3600}

_PLACE = r"^(/|[a-z][a-z0-9]*://)[^\s].*$"
_OWN_PARAMS = ["input", "output", "model", "runner", "reuse", "labels", "job_name"]


def place(default: str, title: str, text: str, pattern: str = _PLACE) -> Param:
    """A param for an absolute path or URL: relative paths lead nowhere in a task's own folder."""
    return Param(default, type="string", title=title, description=text, pattern=pattern)


def model_param() -> Param:
    return place(
        "minilm",
        "Model",
        "TF Hub handle: minilm, a folder, or a URL (https, gs, s3, hdfs)",
        r"^(minilm|/.+|(https|gs|s3|hdfs)://.+)$",
    )


def options_param(default: dict | None = None) -> Param:
    """Everything else that `embedbeam embed` or Beam takes. No credentials: Airflow shows and logs params."""
    return Param(
        default or {},
        type="object",
        title="More options",
        description='Of embed and Beam, e.g. {"id-field": "id", "keep-field": ["lang"], "keep-text": true}',
        propertyNames={"pattern": "^[a-z][a-z0-9_-]*$", "not": {"enum": _OWN_PARAMS}},
        additionalProperties={"type": ["string", "number", "boolean", "array"]},
    )


class EmbedOperator(BeamRunPythonPipelineOperator):
    """Beam's operator, with the options of the run's params; it does not retry what a retry cannot mend."""

    template_fields = (*BeamRunPythonPipelineOperator.template_fields, "py_interpreter")

    def __init__(self, **kwargs):
        own = {"input": INPUT, "output": OUTPUT, "model": "{{ params.model }}", "reuse": REUSE}
        kwargs["pipeline_options"] = own | kwargs.get("pipeline_options", {})
        # launch.py joins both streams: the operator alone hangs on a job that writes much to both.
        super().__init__(py_interpreter=PYTHON, py_file=f"{HOME}/deploy/airflow/launch.py", **kwargs)

    def execute(self, context):
        self.pipeline_options |= context["params"]["options"]
        self.pipeline_options["reuse"] = self.pipeline_options["reuse"] or None  # None is left out
        try:
            return super().execute(context)
        except TaskDeferred:
            if self.dataflow_job_id is None:  # nothing was left to send: an earlier try's job has done it all
                return None
            raise
        except AirflowException as e:
            if str(e).endswith("return code 2"):
                raise AirflowFailException("the command is wrong: the lines above say what; no retry") from e
            raise


def _ask(python: str, program: str, *arguments: str, options: dict) -> subprocess.CompletedProcess:
    """Runs a program of this folder, in embedbeam's environment."""
    command = [python, program, *arguments, *(f"--{name}={value}" for name, value in options.items())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    logging.getLogger(__name__).info("%s%s", done.stdout, done.stderr)
    return done


@task.sensor(poke_interval=300, timeout=6 * 3600, mode="reschedule")
def wait_for_input(python: str, home: str, pattern: str, **context) -> bool:
    """Waits until the job would find a file, wherever its input lies."""
    options = context["params"]["options"]
    found = _ask(python, f"{home}/deploy/airflow/input_there.py", pattern, options=options)
    if found.returncode not in (0, 3):
        said = f"{found.stdout}{found.stderr}".strip()[-1000:]
        raise AirflowFailException(f"--input {pattern}: {said}")
    return found.returncode == 0


@task
def published(python: str, home: str, current: str, output: str, **context) -> dict:
    """Which of the days that were published this one reuses, and which it is compared with."""
    options = context["params"]["options"]
    found = _ask(python, f"{home}/deploy/airflow/published.py", current, output, options=options)
    if found.returncode not in (0, 99):
        kind = AirflowFailException if found.returncode == 2 else AirflowException
        raise kind(found.stderr.strip()[-1000:])
    return json.loads(found.stdout)


def shell(task_id: str, script: str, **kwargs) -> BashOperator:
    """A task of embedbeam's commands; exit code 99 skips it."""
    values = {  # by environment: nothing to quote
        "EMBEDBEAM": f"{HOME}/.venv/bin/embedbeam",
        "PYTHON": PYTHON,
        "PUBLISHED": f"{HOME}/deploy/airflow/published.py",
        "OUTPUT": OUTPUT,
        "CURRENT": CURRENT,
        "CHANGES": CHANGES,
        "BEFORE": BEFORE,
    }
    return BashOperator(task_id=task_id, bash_command=script, env=values, append_env=True, **kwargs)


def look(command: str) -> BashOperator:
    """A task that runs `embedbeam verify` or `embedbeam finish` on the output folder."""
    return shell(command, f'exec "$EMBEDBEAM" {command} "$OUTPUT"')


def diff() -> BashOperator:
    """Writes what changed since the published day before; skipped where there is none."""
    script = '[ "$BEFORE" ] || exit 99; exec "$EMBEDBEAM" diff "$BEFORE" "$OUTPUT" --to "$CHANGES"'
    return shell("diff", script)


def publish() -> BashOperator:
    """Makes the day the current one; skipped where a later day is by now."""
    no_later_day = '"$PYTHON" "$PUBLISHED" "$CURRENT" "$OUTPUT"'
    script = f'{no_later_day} && exec "$EMBEDBEAM" publish "$OUTPUT" --to "$CURRENT"'
    return shell("publish", script, trigger_rule="none_failed")  # `diff` may have been skipped


def tell_where_to_look(context) -> None:
    """Failure callback: how far the job is, and where the log lies. Send this where your team reads."""
    ti = context["ti"]
    home, output = (ti.task.render_template(text, context) for text in (HOME, OUTPUT))
    logging.getLogger(__name__).error(
        "embedbeam: %s of %s failed for good at try %s: %s\n"
        "how far it is:  %s/.venv/bin/embedbeam status %s\n"
        "the log:        %s\n"
        "to go on:       mend the cause, then clear this task: committed shards are not embedded again",
        *(ti.task_id, ti.dag_id, ti.try_number, context.get("exception"), home, output, ti.log_url),
    )


# What both DAGs are.
DAILY = {
    "schedule": "@daily",
    "start_date": datetime(2026, 1, 1, tzinfo=UTC),
    "catchup": False,
    "max_active_runs": 1,  # a day reuses the one before it
    "default_args": {"on_failure_callback": tell_where_to_look, **RETRIES},
}
