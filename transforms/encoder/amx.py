"""Matrix instructions (AMX) that a virtual machine shows by half, and that oneDNN must then leave alone."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os

# push rbx; mov eax, 1DH; mov ecx, 1; cpuid; pop rbx; ret
_CPUID = bytes.fromhex("53 b81d000000 b901000000 0fa2 5b c3")


def avoid_broken_amx(info: str = "/proc/cpuinfo") -> None:
    """Keeps oneDNN from AMX where its first product of bfloat16 numbers would end the process by SIGILL.

    It sizes its tiles by a leaf of CPUID that some hypervisors leave empty while they show the instructions.
    To be called before oneDNN's first product; what the user has set stays.
    """
    with contextlib.suppress(OSError), open(info) as file:
        if " amx_tile" in file.read() and not describes_tiles():
            os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_FP16")  # the widest below AMX


def describes_tiles() -> bool:
    """Whether an x86-64 processor with AMX tells the size of its tiles; True where nobody may ask.

    Source: CPUID, leaf 1DH, sub-leaf 1 (Intel's manual, volume 2A): EAX has the bytes of a tile and of all.
    """
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    except OSError:  # a hardened machine: oneDNN, which compiles as well, has no code there either
        return True
    page.write(_CPUID)
    start = ctypes.c_char.from_buffer(page)
    told = ctypes.CFUNCTYPE(ctypes.c_uint32)(ctypes.addressof(start))()
    del start
    page.close()
    return bool(told)
