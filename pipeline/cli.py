"""The command line: sub-commands, exit codes, signals, and what is shown on the screen."""

from __future__ import annotations

import argparse
import difflib
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import NoReturn

from pipeline.job import embedbeam_version
from pipeline.options.options import Options, add_embed_arguments
from pipeline.run.signals import on_signals
from transforms.errors import EmbedbeamError, UsageError
from transforms.storage.files import is_local, use_options

_EPILOG = """exit codes: 0 done and balanced; 1 the job ran and something is wrong; 2 a mistake found before
any document was read; 130 and 143 stopped by Ctrl-C or SIGTERM (the same command goes on where it was)."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see `{self.prog} --help`")


def make_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="embedbeam",
        allow_abbrev=False,
        epilog=_EPILOG,
        description="Embeds documents with a TF Hub model.",
    )
    parser.add_argument("--version", action="version", version=f"embedbeam {embedbeam_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, allow_abbrev=False, epilog=_EPILOG)

    add_embed_arguments(add("embed", "Embed documents, or go on with a job where it was."))
    for name, text in (
        ("status", "Tell how far a job is, from any machine, while it runs or after it died."),
        ("verify", "Read an output folder back and report every defect."),
        ("finish", "Balance a job that nobody waited for, and write its manifest and _SUCCESS."),
    ):
        add(name, text).add_argument("output", metavar="OUTPUT", help="output folder of a job")
    commands.choices["finish"].add_argument(
        "--max-dead-letters",
        default="1%",
        metavar="N",
        help="more than this, a number or a percentage, is a failure",
    )
    export = add("export", "Write a BERT checkpoint folder as a TF Hub SavedModel.")
    export.add_argument(
        "checkpoint", metavar="CHECKPOINT_DIR", help="config.json, vocab.txt and *.safetensors"
    )
    export.add_argument("model", metavar="MODEL_DIR", help="where the SavedModel is written")
    export.add_argument(
        "--precision", choices=("float32", "bfloat16"), default="float32", help="of the weights"
    )
    inspect = add(
        "inspect", "Show a model's signature, dim, dtype, digest, window and device, and embed a sample."
    )
    inspect.add_argument("model", metavar="MODEL", help="TF Hub handle, or minilm")
    inspect.add_argument("--signature", metavar="NAME")
    inspect.add_argument("--model-output", metavar="NAME")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script. Returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    return _guarded(lambda: _dispatch(given), given)


def embed_file(arguments: Sequence[str]) -> int:
    """`python pipeline/embed.py`: `embed` that hands what it does not know to Beam."""
    given = ["embed", *arguments]

    def call() -> int:
        parser = make_parser()
        parsed, unknown = parser.parse_known_args(given)
        try:
            _check_unknown(unknown, parser)
        except UsageError as e:  # schedulers add options of their own
            print(f"embedbeam: {e} (ignored)", file=sys.stderr)
        return _embed(parsed, unknown, [sys.executable, sys.argv[0], *arguments])

    return _guarded(call, given)


def _dispatch(given: list[str]) -> int:
    parser = make_parser()
    parsed, unknown = parser.parse_known_args(given)
    if parsed.command == "embed":
        _check_unknown(unknown, parser)
        # `python -m pipeline` may be all there is: the console script need not be on the path.
        module = os.path.basename(sys.argv[0]) == "__main__.py"
        program = [sys.executable, "-m", "pipeline"] if module else ["embedbeam"]
        return _embed(parsed, unknown, [*program, *given])
    if parsed.command in ("status", "verify", "finish"):
        return _look(parsed, unknown, parser)
    if unknown:
        raise UsageError(f"unknown option {unknown[0]}; see `embedbeam {parsed.command} --help`")
    if parsed.command == "export":
        from transforms.encoder.export import export

        print(f"wrote {export(parsed.checkpoint, parsed.model, precision=parsed.precision)}")
        return 0
    from pipeline.commands.inspect import print_model

    return print_model(parsed.model, signature=parsed.signature, model_output=parsed.model_output)


def _embed(parsed: argparse.Namespace, unknown: list[str], command: list[str]) -> int:
    values = {k: v for k, v in vars(parsed).items() if k != "command"}
    options = Options(**values, beam_args=tuple(unknown))
    if options.dry_run:
        from pipeline.commands.dry_run import print_plan

        return print_plan(options)
    on_signals(options.output, command)
    from pipeline.run.launch import run
    from pipeline.run.summary import print_summary

    manifest = run(options)
    if manifest is not None and not options.quiet:
        print_summary(manifest)
    return 0


def _look(parsed: argparse.Namespace, unknown: list[str], parser: argparse.ArgumentParser) -> int:
    """The commands that look at an output folder, on whatever file system Beam's options describe."""
    if unknown:
        _check_unknown(unknown, parser, parsed.command)
    if unknown or not is_local(parsed.output):
        from pipeline.cluster.beam_options import parse
        from transforms.storage.stores import check_store

        beam_options = parse(unknown)
        use_options(beam_options)
        check_store("OUTPUT", parsed.output, beam_options)
    if parsed.command == "status":
        from pipeline.commands.status import print_status

        return print_status(parsed.output)
    if parsed.command == "verify":
        from pipeline.commands.verify import print_defects

        return print_defects(parsed.output)
    from pipeline.run.launch import finish_job
    from pipeline.run.summary import print_summary

    print_summary(finish_job(parsed.output, parsed.max_dead_letters))
    return 0


def _check_unknown(unknown: list[str], parser: argparse.ArgumentParser, command: str = "embed") -> None:
    """Beam's own options pass; anything else is an error that suggests the nearest name."""
    names = [argument.split("=", 1)[0] for argument in unknown if argument.startswith("-")]
    stray = [argument for argument in unknown[:1] if not argument.startswith("-")]
    if stray:
        raise UsageError(f"unexpected argument {stray[0]!r}; see `embedbeam {command} --help`")
    if not names:
        return
    from pipeline.cluster.beam_options import known_beam_options

    beam_names = set(known_beam_options())
    endpoints = [argument.partition("=")[2] for argument in unknown if argument.startswith("--job_endpoint=")]
    if not beam_names.issuperset(names) and endpoints and endpoints[-1] != "embed":
        from pipeline.cluster.probe import probe_job_server

        beam_names |= probe_job_server(endpoints[-1])
    for name in names:
        if name in beam_names:
            continue
        embed = parser._subparsers._group_actions[0].choices[command]  # type: ignore[union-attr,index]
        own = [option for action in embed._actions for option in action.option_strings]
        near = difflib.get_close_matches(name, beam_names, 1, 0.9) or difflib.get_close_matches(
            name, [*own, *beam_names], 1, 0.6
        )
        hint = f"; did you mean {near[0]}?" if near else f"; see `embedbeam {command} --help`"
        raise UsageError(f"unknown option {name}{hint}")


def _guarded(call: Callable[[], int], given: list[str]) -> int:
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
        print(f"embedbeam: error: {e}", file=sys.stderr)
        return 2 if isinstance(e, UsageError) else 1
    except BrokenPipeError:
        return 1
    except OSError as e:
        if verbose:
            raise
        print(f"embedbeam: error: {os_error_text(e)}", file=sys.stderr)
        return 1
    except Exception as e:  # a bug of ours: still one line, and where to see more
        if verbose:
            raise
        print(
            f"embedbeam: error: {type(e).__name__}: {e} (unexpected; --verbose shows the traceback)",
            file=sys.stderr,
        )
        return 1


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
