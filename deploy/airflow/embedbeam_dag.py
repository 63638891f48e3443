"""Embeds a day's documents into a folder of that day, and verifies it. Copy it beside embedbeam_tasks.py.

Its pool keeps two jobs off one GPU: `airflow pools set embedbeam 1 "one embedding job at a time"`.
"""

from datetime import UTC, datetime

from airflow.sdk import DAG, Param
from embedbeam_tasks import (
    HOME,
    INPUT,
    PYTHON,
    RETRIES,
    EmbedOperator,
    look,
    model_param,
    options_param,
    place,
    tell_where_to_look,
    wait_for_input,
)

with DAG(
    dag_id="embedbeam",
    description="Embed documents with a TF Hub model; a retry goes on where the last try was",
    doc_md=__doc__,
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["embedbeam"],
    default_args={"on_failure_callback": tell_where_to_look, **RETRIES},
    params={
        "input": place(
            "/data/documents/{date}", "Input", "File, glob, folder or URL; {date} becomes the day of the run"
        ),
        "output": place(
            "/data/vectors", "Output", "Folder or URL; each day gets a folder of its own below it"
        ),
        "model": model_param(),
        "runner": Param(
            "DirectRunner",
            type="string",
            enum=["DirectRunner", "FlinkRunner", "SparkRunner", "PortableRunner", "PrismRunner"],
            title="Runner",
            description="Beam's runner; its own options go below. Dataflow has a DAG of its own",
        ),
        "options": options_param(),
    },
) as dag:
    embed = EmbedOperator(task_id="embed", runner="{{ params.runner }}", pool="embedbeam")
    wait_for_input(PYTHON, HOME, INPUT) >> embed >> look("verify")
