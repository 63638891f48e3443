"""Embeds a day's documents into a folder of that day, verifies it, and makes it the current one.

What the last published day has is not embedded again. Copy this file beside embedbeam_tasks.py.
Its pool keeps two jobs off one GPU: `airflow pools set embedbeam 1 "one embedding job at a time"`.
"""

import embedbeam_tasks as tasks
from airflow.sdk import DAG, Param

with DAG(
    dag_id="embedbeam",
    description="Embed documents with a TF Hub model; a retry goes on where the last try was",
    doc_md=__doc__,
    tags=["embedbeam"],
    **tasks.DAILY,
    params={
        "input": tasks.place(
            "/data/documents/{date}", "Input", "File, glob, folder or URL; {date} becomes the day of the run"
        ),
        "output": tasks.place(
            "/data/vectors", "Output", "Folder or URL; each day gets a folder of its own below it"
        ),
        "model": tasks.model_param(),
        "runner": Param(
            "DirectRunner",
            type="string",
            enum=["DirectRunner", "FlinkRunner", "SparkRunner", "PortableRunner", "PrismRunner"],
            title="Runner",
            description="Beam's runner; its own options go below. Dataflow has a DAG of its own",
        ),
        "options": tasks.options_param(),
    },
) as dag:
    embed = tasks.EmbedOperator(task_id="embed", runner="{{ params.runner }}", pool="embedbeam")
    (
        tasks.wait_for_input(tasks.PYTHON, tasks.HOME, tasks.INPUT)
        >> tasks.published(tasks.PYTHON, tasks.HOME, tasks.CURRENT, tasks.OUTPUT)
        >> embed
        >> tasks.look("verify")
        >> tasks.diff()
        >> tasks.publish()
    )
