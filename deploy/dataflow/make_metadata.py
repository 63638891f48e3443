"""Makes metadata.json, the Flex Template's parameters, from the options of `embed`: `make docs` runs it.

What a template says otherwise than the command line stands here: paths are in a store, several values come in
one parameter with ; between them, and nobody sees the launcher's screen.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pipeline.options.fields import Option, stated
from pipeline.options.options import GROUPS

# Options that a template does not have, and why.
LEFT_OUT = {
    "runner": "a template runs on Dataflow",
    "dry_run": "writes to a screen that nobody sees",
    "quiet": "the launcher's log is for reading",
    "verbose": "the launcher's log is for reading",
    "worker_gpus": "read from dataflow_service_options",
    "shared_filesystem": "Dataflow's workers share object stores only",
    "beam_args": "Beam's own options are parameters of their own",
}
_SEVERAL = "several with ; between them"
_OTHERWISE: dict[str, dict[str, Any]] = {
    "input": {
        "helpText": f"Files, globs (** too) or folders to read, as gs:// paths; {_SEVERAL}. "
        "Example: gs://my-bucket/docs/*.jsonl",
        "regexes": ["^gs://[^/;]+/[^;]+(;gs://[^/;]+/[^;]+)*$"],
    },
    "keep_field": {
        "label": "Kept fields",
        "helpText": f"Fields or columns carried to the output; {_SEVERAL}. Example: title;lang",
    },
    "keep_text": {"label": "Keep the text"},
    "limit": {"helpText": "Only the first so many documents, to try things."},
    "model": {
        "helpText": "TF Hub handle: minilm, which lies in the image, or a gs:// or https:// address of a "
        "SavedModel folder or .tar.gz. No passwords or tokens: parameters can be read by everyone who sees "
        "the job.",
        "regexes": ["^(minilm|gs://[^/]+/.+|https://[^?@]+|/[^?]+)$"],
    },
    "max_tokens": {"label": "Window"},
    "batch_tokens": {
        "label": "Mini-batch tokens",
        "helpText": "Token budget of a mini-batch. Left out: by the launcher's device, which has no GPU; "
        "give one for GPU workers, for example 32768.",
    },
    "output": {
        "label": "Output folder",
        "helpText": "Folder to write to. The same folder again goes on with the job where it was, and "
        "finishes it.",
        "paramType": "GCS_WRITE_FOLDER",
        "regexes": ["^gs://[^/]+/.+$"],
    },
    "vector_dtype": {"label": "Vector type"},
    "tfrecord_gzip": {
        "label": "Compress TFRecord",
        "helpText": "Compress TFRecord files; with output format tfrecord only.",
    },
    "shard_bytes": {
        "label": "Shard size",
        "helpText": "Input bytes of a shard, the unit of commit: what a lost worker costs. Example: 64MiB. "
        "Left out: by size.",
        "paramType": "TEXT",
        "regexes": ["^[0-9]+ ?([kKmMgG][iI]?)?[bB]?$"],
    },
    "max_dead_letters": {
        "label": "Most dead letters",
        "regexes": [r"^([0-9]+|(100|[0-9]{1,2}(\.[0-9]+)?)%)$"],
    },
    "overwrite": {
        "helpText": "Delete what an earlier job left in the output folder, and start anew. "
        "Nothing asks again."
    },
}
# Options of Beam that a template has.
_BEAMS: list[dict[str, Any]] = [
    {
        "name": "sdk_container_image",
        "label": "Worker image",
        "helpText": "Another image for the workers than the template's own.",
        "paramType": "TEXT",
        "isOptional": True,
        "regexes": ["^[a-z0-9.-]+(:[0-9]+)?/[A-Za-z0-9._/-]+(:[A-Za-z0-9._-]+)?(@sha256:[0-9a-f]{64})?$"],
        "groupName": "Workers",
    },
    {
        "name": "dataflow_service_options",
        "label": "GPU",
        "helpText": "What Dataflow is to attach to each worker. "
        "Example: worker_accelerator=type:nvidia-tesla-t4;count:1;install-nvidia-driver",
        "paramType": "TEXT",
        "isOptional": True,
        "regexes": ["^worker_accelerator=type:[a-z0-9-]+;count:1(;install-nvidia-driver(:[a-z0-9.-]+)?)?$"],
        "groupName": "Workers",
    },
]


def parameter(one: Option) -> dict[str, Any]:
    """A template's parameter for an option."""
    text = one.help.replace("; may be given several times", f"; {_SEVERAL}")
    left_open = f" Left out: {one.unset}." if one.unset else ""
    made: dict[str, Any] = {
        "name": one.name,
        "label": one.name.replace("_", " ").capitalize(),
        "helpText": f"{text[0].upper()}{text[1:]}.{left_open}",
        **_type(one),
        "isOptional": not one.required,
    }
    if not one.required and one.default not in (None, ()):
        made["defaultValue"] = str(one.default).lower() if one.type is bool else str(one.default)
    if one.choices:
        made["enumOptions"] = [{"value": choice, "label": choice} for choice in one.choices]
    return made | {"groupName": one.group.capitalize()} | _OTHERWISE.get(one.name, {})


def _type(one: Option) -> dict[str, Any]:
    if one.choices:
        return {"paramType": "ENUM", "regexes": [f"^({'|'.join(one.choices)})$"]}
    if one.type is bool:
        return {"paramType": "BOOLEAN", "regexes": ["^(true|false)$"]}
    if one.type is int:
        return {"paramType": "NUMBER", "regexes": ["^[1-9][0-9]*$" if one.least else "^[0-9]+$"]}
    if one.type is float:
        return {"paramType": "TEXT", "regexes": [r"^[0-9]+(\.[0-9]+)?$"]}
    return {"paramType": "TEXT", "regexes": ["^[^;]+(;[^;]+)*$" if one.type is tuple else "^[^;]+$"]}


def metadata() -> str:
    """The file's text."""
    options = sorted(
        (one for one in stated(*GROUPS) if one.name not in LEFT_OUT),
        key=lambda one: [cls.title for cls in GROUPS].index(one.group),
    )
    whole = {
        "name": "embedbeam",
        "description": "Embeds documents with a TF Hub model: one row per document, each exactly once, as "
        "Parquet or TFRecord.",
        "streaming": False,
        "parameters": [*map(parameter, options), *_BEAMS],
    }
    return json.dumps(whole, indent=2) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(metadata())
