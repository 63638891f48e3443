"""What the Flex Template's launcher starts: `embed` on Dataflow, from the parameters of a template.

The launcher gives every parameter as --name=value. So a flag comes as --keep_text=true, several values come
in one parameter with ; between them, and what the console leaves empty was not given. Everything else, the
launcher's own options among it, goes to Beam as it is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from pipeline.options.fields import stated
from pipeline.options.options import GROUPS

_OPTIONS = {one.name: one for one in stated(*GROUPS) if one.typed}


def command(given: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """The arguments of `embed` that a template's parameters mean; workers get the template's own image.

    >>> command(["--input=gs://b/a;gs://b/c", "--keep_text=true", "--limit=", "--region=r"], {})
    ['--input=gs://b/a', '--input=gs://b/c', '--keep-text', '--region=r']
    """
    arguments = []
    for argument in given:
        name, _, value = argument.removeprefix("--").partition("=")
        one = _OPTIONS.get(name.replace("-", "_"))
        if one is None:
            arguments.append(argument)
        elif one.type is bool:
            arguments += _flag(one.name, one.flag, value)
        elif one.type is tuple:
            arguments += [f"{one.flag}={part}" for part in value.split(";") if part]
        elif value:
            arguments.append(f"{one.flag}={value}")
    image = environment.get("EMBEDBEAM_WORKER_IMAGE")
    if image and not any(argument.startswith("--sdk_container_image=") for argument in arguments):
        arguments.append(f"--sdk_container_image={image}")
    return arguments


def _flag(name: str, flag: str, value: str) -> list[str]:
    if value.lower() not in ("true", "false", ""):
        sys.exit(f"embedbeam: error: parameter {name}={value}: expected true or false")
    return [flag] if value.lower() == "true" else []


if __name__ == "__main__":
    from pipeline.cli import embed_file

    sys.exit(embed_file(command(sys.argv[1:], os.environ)))
