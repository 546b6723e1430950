"""
Collects isboot's world: the interpreter, the modules the boot uses, the shared libraries beneath them.

Nothing is listed by hand.  Everything isboot imports, also inside functions, is imported here, and then
sys.modules and /proc/self/maps say which files that took.

Usage: collect-world.py DIRECTORY
"""

from __future__ import annotations

import ast
import importlib
import os
import py_compile
import shutil
import subprocess
import sys
from pathlib import Path

#: stages and commands a boot uses; the tracers and the benchmark stay at home
LEFT_OUT = ("isboot.trace", "isboot.bpf", "isboot.commands.bench", "isboot.commands.trace")
#: modules the interpreter asks for by itself, or the C parts by name
ALSO = ("encodings.idna", "encodings.latin_1", "encodings.ascii", "_cffi_backend", "traceback", "linecache")
#: modules Python does without: OpenSSL's hashes bring libcrypto and libzstd, 7 MiB that would be locked in
#: memory, and take 10 ms of the start; Python's own are as good
WITHOUT = ("_hashlib",)
#: programs a boot may start, if they are installed: udhcpc, for netroot=dhcp (isboot.network.lease.BUSYBOX)
PROGRAMS = (Path("/usr/bin/busybox"),)


def is_left_out(name: str) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in LEFT_OUT)


def isboot_modules(package: Path) -> list[str]:
    names = []
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    # importing isboot.__main__ would run it; its file is taken by name
    return [name for name in names if not is_left_out(name) and name != "isboot.__main__"]


def imports_of(source: Path) -> set[str]:
    """Give every module a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def import_all(package: Path) -> None:
    sys.modules.update(dict.fromkeys(WITHOUT))  # None: their import fails, as it will in the boot
    names = isboot_modules(package)
    wanted = set(ALSO)
    for name in names:
        importlib.import_module(name)
        source = sys.modules[name].__file__
        if source:
            wanted |= imports_of(Path(source))
    for name in sorted(wanted):
        if is_left_out(name):
            continue
        try:
            importlib.import_module(name)
        except ImportError:
            pass  # a name that is a function, not a module, or one that is optional


def libraries() -> set[Path]:
    """Give the shared objects mapped into this process, and what they in turn are linked with."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        words = [line.split(maxsplit=5) for line in maps]
    return {Path(word[5].strip()) for word in words if len(word) == 6 and ".so" in word[5]}


def linked_with(program: Path) -> list[Path]:
    """Give the shared objects of a program, the interpreter among them; none for a static one."""
    done = subprocess.run(["ldd", str(program)], check=False, capture_output=True, text=True)
    words = [word for line in done.stdout.splitlines() for word in line.split()]
    return [Path(word) for word in words if word.startswith("/")]


def loader() -> Path:
    for path in linked_with(Path(os.path.realpath(sys.executable))):
        if "ld-linux" in path.name:
            return path
    raise SystemExit("collect-world: ldd names no program interpreter")


def add_program(program: Path, top: Path) -> None:
    """Copy a program with what it is linked with; a library that Python has brought is there already."""
    copy(Path(os.path.realpath(program)), top, program)
    for name in linked_with(program):
        library = Path(os.path.realpath(name))  # /lib is a link that is made last
        if "ld-linux" not in name.name and not (top / str(library).lstrip("/")).exists():
            copy(library, top)
            add_names(library, top)


def copy(source: Path, top: Path, name: Path | None = None) -> None:
    """Copy a file to its own place under `top`; /lib is /usr/lib on every system we know."""
    target = top / str(name or source).lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target, follow_symlinks=True)


def add_names(library: Path, top: Path) -> None:
    """Add the links to a library: the maps name its file, programs ask for it by its soname."""
    for link in library.parent.glob(library.name.split(".so")[0] + ".so*"):
        target = top / str(link).lstrip("/")
        if link.is_symlink() and link.resolve() == library.resolve() and not target.exists():
            target.symlink_to(library.name)


def add_module(source: Path, top: Path) -> None:
    target = top / str(source).lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    py_compile.compile(
        str(source),
        cfile=str(target.with_suffix(".pyc")),
        dfile=str(source),
        doraise=True,
        optimize=0,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


def main() -> None:
    top = Path(sys.argv[1])
    import isboot

    package = Path(isboot.__file__).parent
    import_all(package)
    add_module(package / "__main__.py", top)
    # the file of a package's own names only: namespace packages have none
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if not file or getattr(module, "__name__", "") == "__main__":
            continue
        path = Path(file)
        if path.suffix == ".py":
            add_module(path, top)
        elif path.suffix == ".so":
            copy(path, top)
    for library in sorted(libraries()):
        copy(library, top)
        add_names(library, top)
    for program in PROGRAMS:
        if program.exists():
            add_program(program, top)
    interpreter = Path(os.path.realpath(sys.executable))
    copy(interpreter, top, Path("/usr/bin/python3"))
    for link in ("lib", "lib64", "bin", "sbin"):
        if (Path("/") / link).is_symlink() and not (top / link).exists():
            (top / link).symlink_to(os.readlink(f"/{link}"))
            (top / os.readlink(f"/{link}")).mkdir(parents=True, exist_ok=True)
    copy(loader(), top, Path(os.path.realpath(loader())))
    name = loader()
    linked = top / str(name).lstrip("/")
    if not linked.exists():
        linked.parent.mkdir(parents=True, exist_ok=True)
        linked.symlink_to(os.path.realpath(name))


if __name__ == "__main__":
    main()
