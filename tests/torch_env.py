"""A real PyTorch with mteb for tests, in an environment of their own in the cache, with this project.

python tests/torch_env.py     # prints its Python

The usual Linux wheel of torch is built for GPUs: it asks for 3 GB of NVIDIA's packages, and does not
load without their libraries. Nothing of them is called where there is no GPU. So torch comes with NVIDIA's
small runtime alone, and each other library is made here by gcc, of what torch's own say they need: the
names are there, and do nothing.
"""

import re
import subprocess
import sys
import sysconfig
from pathlib import Path

from environments import environment

PINS = ("torch==2.15.0", "nvidia-cuda-runtime==13.2.86", "sympy==1.14.0", "mpmath==1.3.0", "networkx==3.6.1",
        "jinja2==3.1.6", "markupsafe==3.0.4", "fsspec==2026.9.0", "filelock==4.2.11",
        # mteb and what it imports
        "mteb==2.26.24", "sentence-transformers==6.2.0", "transformers==5.23.0",
        "pytrec-eval-terrier==0.5.11", "datasets==5.2.0", "dill==0.4.1", "multiprocess==0.70.19",
        "xxhash==4.1.0", "pydantic==2.14.3", "pydantic-core==2.50.4", "typing-inspection==0.4.5",
        "annotated-types==0.8.0", "typer==0.29.2")  # fmt: skip
_OF_GPUS = re.compile(r"lib(cu|nv|nccl)\w*\.so\.\d+")
_NAMES_OF_GPUS = re.compile(r"(nccl|cufft|cusparse|cublas|cudnn|cuFile|nvshmem|nvrtc|cupti|cusolver)\w*")


def python() -> Path:
    """The Python of an environment with torch and all that this one has, made where there is none yet."""
    return environment("torch", [sys.version, sys.prefix, *PINS], _install) / "bin" / "python"


def _install(folder: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    packages = next(folder.glob("lib/python*/site-packages"))
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python"]
    subprocess.run([*pip, "install", "--quiet", "--no-compile", "--no-deps", *PINS], check=True)
    # What is not found here is looked for where this Python has it.
    (packages / "embedbeam.pth").write_text(sysconfig.get_path("purelib") + "\n")
    _stand_in(packages)


def _stand_in(packages: Path) -> None:
    """Writes the libraries that torch's want and that are not there."""
    torch = sorted((packages / "torch" / "lib").glob("*.so*"))
    needed = {name for path in torch for name in re.findall(r"NEEDED.*\[(.*)\]", _run("readelf", "-d", path))}
    undefined = {word for path in torch for word in _run("nm", "-D", "--undefined-only", path).split()}
    there = {path.name for path in packages.glob("nvidia/*/lib/*")} | {path.name for path in torch}
    place = packages / "nvidia" / "cu13" / "lib"
    place.mkdir(parents=True, exist_ok=True)
    for name in sorted(name for name in needed - there if _OF_GPUS.fullmatch(name)):
        version = "NVSHMEM" if "nvshmem" in name else name
        own = {one.partition("@")[0] for one in undefined if one.endswith(f"@{version}")}
        symbols = own or {one for one in undefined if _NAMES_OF_GPUS.fullmatch(one)}
        source, script = place / f"{name}.c", place / f"{name}.map"
        source.write_text("".join(f"void {one}(void) {{ __builtin_trap(); }}\n" for one in sorted(symbols)))
        script.write_text(f"{version} {{ global: *; }};" if own else "{ global: *; };")
        flags = ["-w", "-shared", "-fno-builtin", f"-Wl,-soname,{name}", f"-Wl,--version-script={script}"]
        subprocess.run(["gcc", *flags, source, "-o", place / name], check=True)


def _run(*command: object) -> str:
    return subprocess.run([str(one) for one in command], check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    print(python())
