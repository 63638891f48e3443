"""The command line: assembles the sub-commands, and turns errors into one line and an exit code."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import itertools
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import NoReturn

from pipeline.commands import NAMES, Result
from pipeline.run.screen import Screen, print_json
from pipeline.run.signals import on_signals, stop_command
from transforms.errors import GO_ON, EmbedbeamError, UsageError

_EPILOG = """exit codes: 0 done and balanced; 1 the job ran and something is wrong; 2 a mistake found before
any document was read; 130 and 143 stopped by Ctrl-C or SIGTERM (the same command goes on where it was)."""
# What Ctrl-C leaves of a command that says nothing of its own: files appear as a whole, others go.
_STOPPED = "no file is left half written, and the same command can be run again"


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
        text = (module.run.__doc__ or name).partition("\n")[0]
        below = commands.add_parser(name, help=text, description=text, allow_abbrev=False, epilog=_EPILOG)
        module.add(below)
        below.set_defaults(run=module.run, parser=below)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script. Returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # `python -m pipeline` may be all there is: the console script need not be on the path.
    module = os.path.basename(sys.argv[0]) == "__main__.py"
    program = [sys.executable, "-m", "pipeline"] if module else ["embedbeam"]
    return _main(given, [*program, *given], alone=arguments is None)


def embed_file(arguments: Sequence[str]) -> int:
    """`python pipeline/embed.py`: `embed` that hands what it does not know to Beam."""
    return _main(["embed", *arguments], [sys.executable, sys.argv[0], *arguments], lenient=True)


def _main(given: list[str], command: list[str], *, alone: bool = True, lenient: bool = False) -> int:
    """Does what is given.

    Args:
      command: as it was typed.
      alone: whether this process has nothing else to do afterwards.
      lenient: whether options that nobody knows are told of, and no mistake.
    """
    if given == ["--version"]:
        from pipeline.version import installed

        print(f"embedbeam {installed('embedbeam')}")
        return 0
    with contextlib.closing(Screen()) as screen:
        on_signals(screen.fd, lambda tell: stop_command(_STOPPED, tell))
        code = _guarded(lambda: _run(given, command, screen, lenient), given, screen)
    loading = sys.modules.get("pipeline.run.loading")
    if alone and loading is not None and loading.is_loading():  # nobody needs that model any more
        sys.stdout.flush()
        os._exit(code)
    return code


def _run(given: list[str], command: list[str], screen: Screen, lenient: bool) -> int:
    names = given[:1] if given and given[0] in NAMES else NAMES  # others take time to import
    args, unknown = make_parser(names).parse_known_args(given)
    for name in ("question", "doc_id"):  # argparse gives one that may be left out nothing behind an option
        if getattr(args, name, "") is None and unknown and not unknown[0].startswith("-"):
            setattr(args, name, unknown.pop(0))
    args.beam_args, args.screen, args.typed = unknown, screen, command
    args.make_parser = make_parser  # of all commands
    as_json = getattr(args, "json", False)
    screen.quiet = getattr(args, "quiet", False) or (as_json and getattr(args, "dry_run", False))
    with screen:
        try:
            _check_unknown(unknown, args.parser)
        except UsageError as e:
            if not lenient:
                raise
            screen.tell(f"{e} (ignored)")  # schedulers add options of their own
        result: Result = args.run(args)
    if as_json and result.record is not None:
        print_json(result.record)
    elif not as_json:
        for line in result.words:
            print(line)
    return result.code


def _check_unknown(unknown: Sequence[str], parser: argparse.ArgumentParser) -> None:
    """Refuses what neither this command nor Beam (or a job server that is named) knows.

    Args:
      unknown: arguments that the parser did not take.
      parser: the command's; its default `takes_beams` says whether Beam's options make sense here.

    Raises:
      UsageError: suggests the nearest name.
    """
    if not unknown:
        return
    names = [argument.split("=", 1)[0] for argument in unknown if argument.startswith("-")]
    help_text = f"see `{parser.prog} --help`"
    if not unknown[0].startswith("-"):
        raise UsageError(f"unexpected argument {unknown[0]!r}; {help_text}")
    beam_names: set[str] = set()
    if parser.get_default("takes_beams") is not False:
        from pipeline.cluster.beam_options import known_beam_options

        beam_names |= set(known_beam_options())
        pairs = itertools.pairwise([*unknown, ""])
        endpoints = [a.partition("=")[2] or b for a, b in pairs if a.partition("=")[0] == "--job_endpoint"]
        if not beam_names.issuperset(names) and endpoints and endpoints[-1] != "embed":
            from pipeline.cluster.probe import probe_job_server

            beam_names |= probe_job_server(endpoints[-1])
    own = [option for action in parser._actions for option in action.option_strings]
    for name in names:
        if name not in beam_names:
            near = difflib.get_close_matches(name, beam_names, 1, 0.9)
            near = near or difflib.get_close_matches(name, [*own, *beam_names], 1, 0.6)
            raise UsageError(f"unknown option {name}; {f'did you mean {near[0]}?' if near else help_text}")


def _guarded(call: Callable[[], int], given: list[str], screen: Screen) -> int:
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
    except BrokenPipeError:
        return 1
    except Exception as e:
        if verbose and not isinstance(e, EmbedbeamError):
            raise
        logging.getLogger("embedbeam").info("traceback", exc_info=True)
        text = error_text(e)
        code, argument = (2, e.argument) if isinstance(e, UsageError) else (1, None)
        if "--json" in given:
            with contextlib.suppress(OSError):  # nobody reads it
                print_json({"error": text, "argument": argument, "exit_code": code})
        screen.tell(f"error: {text}")
        return code


def error_text(error: Exception) -> str:
    """What a user reads of an error, without secrets."""
    from pipeline.options.arguments import in_flags
    from pipeline.options.secrets import redact_text

    if isinstance(error, EmbedbeamError):
        return redact_text(in_flags(error))
    if isinstance(error, OSError):  # a full disk, a lost mount
        where = f"{error.filename}: " if error.filename else ""
        return redact_text(f"{where}{error.strerror or error}; {GO_ON}")
    return redact_text(f"{type(error).__name__}: {error} (unexpected; --verbose shows the traceback)")


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
