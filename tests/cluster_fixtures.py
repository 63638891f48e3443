"""Real Flink and Spark clusters on 127.0.0.1, one of each for all tests of a session."""

import shutil
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "tools" / "clusters"))


@pytest.fixture(scope="session")
def flink_cluster(tmp_path_factory):
    from flink import FlinkCluster

    folder = tmp_path_factory.mktemp("flink")
    with FlinkCluster(folder) as cluster:
        yield cluster
    shutil.rmtree(folder, ignore_errors=True)  # gigabytes of jars


@pytest.fixture(scope="session")
def spark_cluster(tmp_path_factory):
    from spark import SparkCluster

    folder = tmp_path_factory.mktemp("spark")
    with SparkCluster(folder) as cluster:
        yield cluster
    shutil.rmtree(folder, ignore_errors=True)
