"""A real Airflow in an environment of its own, in the cache: made once from deploy/airflow's pins.

python tests/airflow_env.py     # prints the folder of its programs
"""

import re
import subprocess
import sys
from pathlib import Path

from environments import environment

AIRFLOW = Path(__file__).resolve().parent.parent / "deploy" / "airflow"
# Two thirds of the full environment belong to Google services that no DAG here touches, and to Beam itself,
# which the operator only starts in the job's environment.
UNUSED = re.compile(
    r"(apache-beam|ray|litellm|scikit-learn|scipy|pandas|pandas-gbq|db-dtypes|numpy|pyarrow|pillow|openai|tiktoken"
    r"|tokenizers|hf-xet|huggingface.hub|babel|looker.sdk|google-ads|google-analytics-admin|google-genai"
    r"|google-cloud-(?!core=|dataflow-client=|secret-manager=|storage=)[a-z-]+|sqlalchemy-(bigquery|spanner)"
    r"|gcsfs|gcloud-aio-bigquery|fastavro|pymongo|py-spy|virtualenv)==",
    re.IGNORECASE,
)


def programs() -> Path:
    """The folder with `airflow` in it; makes the environment where there is none yet."""
    pins = [line for line in (AIRFLOW / "constraints.txt").read_text().splitlines() if "==" in line]
    pins = [pin for pin in pins if not UNUSED.match(pin)]
    return environment("airflow", [sys.version, *pins], lambda folder: _install(folder, pins)) / "bin"


def _install(folder: Path, pins: list[str]) -> None:
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    (folder / "pins.txt").write_text("\n".join(pins))
    command = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-compile", "--no-deps"]
    subprocess.run([*command, "--requirement", folder / "pins.txt"], check=True)


if __name__ == "__main__":
    print(programs())
