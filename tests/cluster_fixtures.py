"""Real Flink and Spark clusters on 127.0.0.1, one of each for all tests of a session."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "tools" / "clusters"))


@pytest.fixture(scope="session")
def flink_cluster(tmp_path_factory):
    from flink import FlinkCluster

    with FlinkCluster(tmp_path_factory.mktemp("flink")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def spark_cluster(tmp_path_factory):
    from spark import SparkCluster

    with SparkCluster(tmp_path_factory.mktemp("spark")) as cluster:
        yield cluster
