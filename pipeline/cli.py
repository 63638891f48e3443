"""The command line: assembles the sub-commands, and turns errors into one line and an exit code."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import NoReturn

from pipeline.commands import NAMES
from pipeline.run.screen import Screen
from pipeline.run.signals import die_quietly
from transforms.errors import EmbedbeamError, UsageError

_EPILOG = """exit codes: 0 done and balanced; 1 the job ran and something is wrong; 2 a mistake found before
any document was read; 130 and 143 stopped by Ctrl-C or SIGTERM (the same command goes on where it was)."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see `{self.prog} --help`")


def make_parser(names: Sequence[str] = NAMES) -> argparse.ArgumentParser:
    """The parser of these commands; what is parsed has `run` and `parser` of the one that was typed."""
    parser = _Parser(
        prog="embedbeam",
        allow_abbrev=False,
        epilog=_EPILOG,
        description="Embeds documents with a TF Hub model.",
    )
    parser.add_argument("--version", action="store_true", help="show the version")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    for name in names:
        module = import_module(f"pipeline.commands.{name}")
        below = commands.add_parser(
            name, help=module.HELP, description=module.HELP, allow_abbrev=False, epilog=_EPILOG
        )
        module.add(below)
        below.set_defaults(run=module.run, parser=below)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script. Returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # `python -m pipeline` may be all there is: the console script need not be on the path.
    module = os.path.basename(sys.argv[0]) == "__main__.py"
    program = [sys.executable, "-m", "pipeline"] if module else ["embedbeam"]
    return _end(_main(given, [*program, *given]), alone=arguments is None)


def embed_file(arguments: Sequence[str]) -> int:
    """`python pipeline/embed.py`: `embed` that hands what it does not know to Beam."""
    command = [sys.executable, sys.argv[0], *arguments]
    return _end(_main(["embed", *arguments], command, lenient=True), alone=True)


def _main(given: list[str], command: list[str], *, lenient: bool = False) -> int:
    screen = Screen()
    die_quietly(screen.fd)
    if given == ["--version"]:
        from pipeline.version import embedbeam_version

        print(f"embedbeam {embedbeam_version()}")
        return 0

    def call() -> int:
        names = given[:1] if given and given[0] in NAMES else NAMES  # others take time to import
        args, unknown = make_parser(names).parse_known_args(given)
        args.beam_args, args.screen, args.typed, args.lenient = unknown, screen, command, lenient
        args.make_parser = make_parser  # of all commands
        code: int = args.run(args)
        return code

    try:
        return _guarded(call, given, screen)
    finally:
        screen.close()


def _end(code: int, *, alone: bool) -> int:
    """Ends a process that has nothing else to do at once, without waiting for a model that nobody needs."""
    loading = sys.modules.get("pipeline.run.loading")
    if alone and loading is not None and loading.is_loading():
        sys.stdout.flush()
        os._exit(code)
    return code


def _guarded(call: Callable[[], int], given: list[str], screen: Screen | None = None) -> int:
    """Turns errors into one line and an exit code."""
    verbose = "--verbose" in given
    if verbose:
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    else:
        quiet_libraries()
    try:
        return call()
    except KeyboardInterrupt:
        return 130
    except EmbedbeamError as e:
        if verbose:
            logging.getLogger("embedbeam").error("traceback", exc_info=True)
        from pipeline.options.arguments import in_flags

        code, text = 2 if isinstance(e, UsageError) else 1, in_flags(e)
        argument = e.argument if isinstance(e, UsageError) else None
    except BrokenPipeError:
        return 1
    except OSError as e:
        if verbose:
            raise
        code, text, argument = 1, os_error_text(e), None
    except Exception as e:  # a bug of ours: still one line, and where to see more
        if verbose:
            raise
        text = f"{type(e).__name__}: {e} (unexpected; --verbose shows the traceback)"
        code, argument = 1, None
    _tell(text, argument, code, screen, as_json="--json" in given)
    return code


def _tell(text: str, argument: str | None, code: int, screen: Screen | None, *, as_json: bool) -> None:
    from pipeline.options.secrets import redact_text

    text = redact_text(text)
    if as_json:
        from pipeline.commands.results import print_json

        print_json({"error": text, "argument": argument, "exit_code": code})
    if screen is not None:
        screen.tell(f"error: {text}")
    else:
        print(f"embedbeam: error: {text}", file=sys.stderr)


def os_error_text(error: OSError) -> str:
    """A full disk, a lost mount: what happened, where, and that nothing committed is lost."""
    where = f"{error.filename}: " if error.filename else ""
    advice = "what is committed is kept: mend this, then run the same command again"
    return f"{where}{error.strerror or error}; {advice}"


def quiet_libraries() -> None:
    """Keeps warnings that a user can do nothing about off the screen."""
    threading.excepthook = lambda _: None  # Beam's threads; the main thread has the error, too
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    warnings.filterwarnings("ignore")
    for name in ("apache_beam", "tensorflow", "absl", "h5py"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # Tracebacks of errors that are told in one line; a job server's come through the root logger.
    for name in ("root", "apache_beam.runners.common", "apache_beam.runners.worker"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
