"""The sub-commands, a file each: HELP says what it does, `add` its arguments, and `run` does it.

`run` gets what was typed, with `beam_args` (options that are not ours), `screen`, and `program` (the words
before the arguments); it returns the exit code.
"""

NAMES = ("embed", "status", "verify", "finish", "export", "inspect", "completion")
