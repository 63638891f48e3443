"""What the end-to-end tests share: tiny models saved once, finished outputs, and no process left behind."""

import os
import shutil
import signal

import jobs
import psutil
import pytest
from hypothesis import settings

from transforms.encoder.amx import avoid_broken_amx

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # begun in the background of a shell
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what is started here is to hear Ctrl-C
settings.register_profile("embedbeam", deadline=None)  # no test fails because a machine is busy
settings.load_profile("embedbeam")
avoid_broken_amx()  # as import_tensorflow does, which tests that use TensorFlow alone do not call
# Else what gRPC does in a fork kills, now and then, a process that a test starts: before it is the program.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # read when TensorFlow is loaded, by whichever test is first


pytest_plugins = ["cluster_fixtures"]


NEEDS = {"runners": ("java", "mvn", "go"), "stores": ("go",), "browser": ("chromium",)}


def pytest_collection_modifyitems(items):
    """Without Java, Maven, Go or Chromium the tests are left out that need them."""
    for item in items:
        for marker, programs in NEEDS.items():
            missing = [program for program in programs if not shutil.which(program)]
            if missing and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=f"needs {', '.join(missing)}"))


@pytest.fixture(scope="session")
def text_model(tmp_path_factory):
    """The folder of a model of text_models, by the name of what saves it; each is saved once."""
    folder, saved = tmp_path_factory.mktemp("text_models"), {}

    def path(name, **about):
        import text_models

        key = "-".join([name, *(f"{what}={value}" for what, value in about.items())])
        if key not in saved:
            saved[key] = getattr(text_models, f"save_{name}")(folder / key, **about)
        return saved[key]

    return path


@pytest.fixture(autouse=True)
def no_process_left(request):
    """Every test ends the processes that it started; clusters that tests share end with the session."""
    names = {"flink_cluster", "spark_cluster", "no_restarts"} & set(request.fixturenames)
    clusters = [request.getfixturevalue(name) for name in names]
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    yield
    shared = [psutil.Process(pid) for cluster in clusters for pid in cluster.processes.pids()]
    before |= {child.pid for one in shared for child in (one, *one.children(recursive=True))}
    left = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
    assert [child.cmdline() for child in left if child.is_running()] == []


@pytest.fixture
def free_port():
    """A port that nobody listens on."""
    from processes import free_ports

    return free_ports(1)[0]


@pytest.fixture(scope="session")
def save_model(tmp_path_factory):
    """Returns a function from HashModel's arguments to the path of one saved with them."""
    saved = {}

    def save(**kwargs):
        key = repr(sorted(kwargs.items()))
        if key not in saved:
            import models

            saved[key] = models.save_hash_model(tmp_path_factory.mktemp("model") / "m", **kwargs)
        return saved[key]

    return save


@pytest.fixture(scope="session")
def model(save_model):
    """A model with a window of 16 tokens that counts them."""
    return save_model()


@pytest.fixture(scope="session")
def slow_model(tmp_path_factory):
    """A model that takes a while for each mini-batch, so that a signal comes in the middle."""
    return jobs.save_slow_model(tmp_path_factory.mktemp("slow") / "m")


@pytest.fixture
def cli(capfd, monkeypatch):
    """Runs the console script's function in this process; returns exit code, stdout and stderr."""
    from pipeline.cli import main
    from pipeline.run import screen

    def run(*arguments):
        monkeypatch.setattr(screen, "_LONG_SECONDS", 1e9)  # on a busy machine any step takes long
        kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        capfd.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as e:
            code = e.code
        finally:
            for number, handler in kept.items():
                signal.signal(number, handler)
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """300 JSON documents in three files, some of them bad or long."""
    return jobs.write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def finished(tmp_path_factory, corpus, model):
    """The output of a job over `corpus`, with dead letters; tests read it and change nothing."""
    from pipeline import embed

    output = tmp_path_factory.mktemp("finished") / "out"
    embed(input=str(corpus), output=str(output), model=model, **jobs.CORPUS_OPTIONS)
    return output


@pytest.fixture
def copy_of(finished, tmp_path):
    """A copy of `finished` that a test may damage."""
    shutil.copytree(finished, tmp_path / "out")
    return tmp_path / "out"
