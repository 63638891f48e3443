"""Embeds a day's documents on Dataflow, balances the books, verifies, and makes the day the current one.

Copy it beside embedbeam_tasks.py. The embed task is deferred: while Dataflow works, only the triggerer waits,
and no worker slot is taken.
"""

import embedbeam_tasks as tasks
from airflow.sdk import DAG, Param

_GCS = r"^gs://[a-z0-9][a-z0-9._-]+(/.*)?$"

with DAG(
    dag_id="embedbeam_dataflow",
    description="Embed documents on Dataflow; a retry goes on where the last try was",
    doc_md=__doc__,
    tags=["embedbeam", "dataflow"],
    **tasks.DAILY,
    params={
        "input": tasks.place(
            "gs://my-bucket/documents/{date}", "Input", "gs:// URL; {date} becomes the day of the run", _GCS
        ),
        "output": tasks.place(
            "gs://my-bucket/vectors", "Output", "gs:// URL; each day gets a folder below it", _GCS
        ),
        "model": tasks.model_param(),
        "project": Param(
            "my-project", type="string", title="Project", pattern=r"^[a-z][a-z0-9-]{4,28}[a-z0-9]$"
        ),
        "region": Param("europe-west1", type="string", title="Region", pattern=r"^[a-z]+-[a-z]+[0-9]+$"),
        "image": Param(
            "europe-docker.pkg.dev/my-project/embedbeam/embedbeam:0.1.0",
            type="string",
            title="Image of the workers",
            description="Container image with embedbeam in it, as deploy/docker makes it",
            pattern=r"^[a-z0-9][^\s]+$",
        ),
        "options": tasks.options_param({"machine_type": "n2-standard-4", "max_num_workers": 10}),
    },
) as dag:
    embed = tasks.EmbedOperator(
        task_id="embed",
        runner="DataflowRunner",
        deferrable=True,
        # Dataflow refuses a second job of a name that is at work: a day is embedded by one job at a time.
        dataflow_config={
            "job_name": f"embedbeam-{{{{ {tasks.DAY} }}}}",
            "append_job_name": False,
            "project_id": "{{ params.project }}",
            "location": "{{ params.region }}",
            "wait_until_finished": True,
        },
        pipeline_options={
            "sdk_container_image": "{{ params.image }}",
            "temp_location": "{{ params.output.rstrip('/') }}/_dataflow_temp",
            # The operator learns the job's id from a line of Beam's log, which is shown only with this.
            "verbose": True,
        },
    )
    # Nobody waits for a Dataflow job but Airflow: `finish` balances it and writes _SUCCESS.
    (
        tasks.wait_for_input(tasks.PYTHON, tasks.HOME, tasks.INPUT)
        >> tasks.published(tasks.PYTHON, tasks.HOME, tasks.CURRENT, tasks.OUTPUT)
        >> embed
        >> tasks.look("finish")
        >> tasks.look("verify")
        >> tasks.diff()
        >> tasks.publish()
    )
