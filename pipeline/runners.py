"""What differs between Beam's runners, in one place."""

from __future__ import annotations

from typing import Any

from pipeline.options import Options
from transforms.encoder.encoder import first_line
from transforms.encoder.handle import redact
from transforms.errors import UsageError


def make_runner(options: Options) -> Any:
    """The runner. DirectRunner is Beam's in-process FnApiRunner, chosen explicitly.

    What Beam's own DirectRunner switches to depends on the network and on the graph.

    Raises:
      UsageError: Beam knows no such runner, or it is asked to work in a way that hangs.
    """
    if options.runner not in ("DirectRunner", "FnApiRunner"):
        from apache_beam.runners.runner import create_runner

        try:
            create_runner(options.runner)
        except (ValueError, ImportError, AttributeError) as e:
            raise UsageError(f"--runner {options.runner}: {first_line(e)}") from e
        return options.runner
    from apache_beam.options.pipeline_options import DirectOptions
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    direct = beam_options(options).view_as(DirectOptions)
    if direct.direct_running_mode != "in_memory" or (direct.direct_num_workers or 1) != 1:
        raise UsageError(
            "--direct_running_mode and --direct_num_workers: the local runner works in one process, whose "
            "threads keep the model busy; Beam's multi-process mode hangs when a worker dies. Leave them out"
        )
    return FnApiRunner()


def beam_options(options: Options) -> Any:
    """Beam's own options, as the user gave them."""
    from apache_beam.options.pipeline_options import PipelineOptions

    arguments = list(options.beam_args)
    if options.runner not in ("DirectRunner", "FnApiRunner"):
        arguments.append(f"--runner={options.runner}")
    try:
        parsed = PipelineOptions(arguments)
        parsed.get_all_options()
    except SystemExit:  # argparse has said why, on the lines before
        raise UsageError(f"Beam does not take these options: {' '.join(map(redact, arguments))}") from None
    return parsed


def known_beam_options() -> set[str]:
    """Names of all options that Beam knows, as they are typed: --direct_num_workers, ..."""
    import argparse

    from apache_beam.options import pipeline_options

    def classes(base: Any) -> list[Any]:
        return [found for below in base.__subclasses__() for found in (below, *classes(below))]

    parser = argparse.ArgumentParser(add_help=False, conflict_handler="resolve")
    for options_class in classes(pipeline_options.PipelineOptions):
        if "_add_argparse_args" in vars(options_class):
            options_class._add_argparse_args(parser)
    return {name for action in parser._actions for name in action.option_strings}
