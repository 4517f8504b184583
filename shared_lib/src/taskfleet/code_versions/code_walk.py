"""The walk from a function to all code of the project that it reaches by name, through any number of its modules."""

import builtins
import os
from dataclasses import dataclass
from pathlib import Path

from taskfleet.code_versions.names import Read, Target
from taskfleet.code_versions.pieces import ANNOTATIONS, Piece
from taskfleet.code_versions.source_files import SourceFile, read_file
from taskfleet.code_versions.syntax import chain_of, decorator_chain, digest_of

#: What the walk cannot follow, with the text of the note.
COMPUTED = {
    "getattr": "getattr with a computed name",
    "exec": "exec",
    "eval": "eval",
    "globals": "globals",
    "__import__": "__import__",
    "importlib.import_module": "importlib.import_module",
    "importlib.__import__": "importlib.__import__",
    "runpy.run_path": "runpy.run_path",
    "runpy.run_module": "runpy.run_module",
    "sys.modules": "sys.modules",
}
_NOT_OF_THE_PROJECT = frozenset({"site-packages", "dist-packages", "node_modules", "__pycache__"})


@dataclass(frozen=True, slots=True)
class Module:
    """A module of the project; ``file`` is None for a folder without ``__init__.py``."""

    name: str
    folder: Path
    """Where its submodules are."""
    package: Path
    """What its relative imports start from."""
    file: SourceFile | None


class ProjectModules:
    """The modules of a project, which are found by the names in import statements."""

    def __init__(self, project: Path, search_path: list[str]) -> None:
        """Look for modules in the project, its folder ``src``, and the folders of ``search_path`` that are in the project."""
        self.project = project.resolve()
        self._roots: list[Path] = []
        for one in [self.project, self.project / "src", *map(Path, search_path)]:
            folder = self.within(one)
            if folder is not None and folder not in self._roots:
                self._roots.append(folder)
        self._found: dict[tuple[Path | None, str], Module | None] = {}

    def within(self, path: Path) -> Path | None:
        """Return a path as one below the project; None if it is elsewhere, or belongs to packages or the library."""
        for one in (Path(os.path.normpath(path.absolute())), path.resolve()):
            try:
                parts = one.relative_to(self.project).parts
            except ValueError:
                continue
            if any(part in _NOT_OF_THE_PROJECT or part.startswith(".") for part in parts):
                return None
            return None if parts[:1] == ("shared_lib",) else self.project.joinpath(*parts)
        return None

    def at(self, path: Path) -> Module:
        """Return the module of a file of the project."""
        names = list(path.relative_to(self.project).with_suffix("").parts)
        if names[0] == "src" and len(names) > 1:
            del names[0]
        is_package = names[-1] == "__init__" and len(names) > 1
        name = ".".join(names[:-1] if is_package else names)
        folder = path.parent if is_package else path.with_suffix("")
        return Module(name, folder, path.parent, read_file(path))

    def find(self, name: str, folder: Path | None = None) -> Module | None:
        """Return a module by its dotted name, below a folder or as ``import`` finds it; None if it is not the project's."""
        key = (folder, name)
        if key not in self._found:
            self._found[key] = self._look_for(name, self._roots if folder is None else [folder])
        return self._found[key]

    def _look_for(self, name: str, roots: list[Path]) -> Module | None:
        for root in roots:
            path = root.joinpath(*name.split(".")) if name else root
            for file in (path / "__init__.py", path.with_name(f"{path.name}.py")):
                if file.is_file() and self.within(file) is not None:
                    return self.at(file)
        for root in roots:
            path = root.joinpath(*name.split(".")) if name else root
            if path.is_dir() and self.within(path) is not None:
                return Module(".".join(path.relative_to(self.project).parts), path, path, None)
        return None


class Walk:
    """The code that has been reached: ``parts`` and ``sources`` by name, and what could not be followed."""

    def __init__(self, modules: ProjectModules) -> None:
        """Start with nothing."""
        self.modules = modules
        self.parts: dict[str, str] = {}
        self.sources: dict[str, str] = {}
        self.not_followed: dict[str, None] = {}
        self._waiting: list[tuple[Module, str]] = []
        self._seen: dict[tuple[str, tuple[str, ...]], str | None] = {}
        self._pieces: set[tuple[str, str]] = set()

    def reach(self, module: Module, chain: tuple[str, ...], line: int) -> None:
        """Add what a name of a module leads to, and all that it reaches."""
        self._note_computed(module, line, self._resolve(module, chain, line))
        self._finish()

    def reach_target(self, module: Module, target: Target, rest: tuple[str, ...], line: int) -> None:
        """Add what an import statement in a module leads to, with the attributes that are read from it, and all that it reaches."""
        self._note_computed(module, line, self._follow_target(module, target, rest, line))
        self._finish()

    def reach_attribute(self, module: Module, chain: tuple[str, ...], line: int) -> None:
        """Add what an attribute of a module leads to, and all that it reaches; the whole module without one."""
        self._attribute(module, chain, module, line)
        self._finish()

    def reach_piece(self, module: Module, name: str, piece: Piece) -> None:
        """Add code that has no name in its module, and all that it reaches."""
        self.add_piece(module, name, piece)
        self._finish()

    def note(self, module: Module, line: int, what: str) -> None:
        """Record what could not be followed, and where."""
        path = module.file.path if module.file is not None else module.folder
        inside = self.modules.within(path)
        place = inside.relative_to(self.modules.project).as_posix() if inside is not None else path.name
        self.not_followed[f"{place}:{line}: {what}"] = None

    def _finish(self) -> None:
        while self._waiting:
            module, name = self._waiting.pop()
            assert module.file is not None
            self.add_piece(module, name, module.file.piece(name))

    def add_piece(self, module: Module, name: str, piece: Piece) -> None:
        """Add the code of one name; what it reads is reached later."""
        full = f"{module.name}.{name}"
        self.sources[full] = piece.source
        if piece.is_import:
            self.parts[full] = "= " + ", ".join(self._target_name(module, one) for one in piece.targets)
        else:
            counted = [
                one for one in piece.decorators if one[0] != ANNOTATIONS and not self._is_ours(module, one[0], set())
            ]
            if counted:
                counted += [one for one in piece.decorators if one[0] == ANNOTATIONS]
            self.parts[full] = digest_of(*piece.notations, *(text for _, text, _ in counted))
            for method, text in piece.methods.items():
                self.parts[f"{full}.{method}"] = digest_of(text)
            for _, _, reads in counted:
                self._follow(module, reads)
        self._follow(module, piece.reads)

    def _follow(self, module: Module, reads: tuple[Read, ...]) -> None:
        for one in reads:
            if one.target is None:
                outside = self._resolve(module, one.chain, one.line)
            else:
                outside = self._follow_target(module, one.target, one.chain[1:], one.line)
            self._note_computed(module, one.line, outside)

    def _resolve(self, module: Module, chain: tuple[str, ...], line: int) -> str | None:
        """Reach what names of a module lead to; return the dotted name that it has outside of the project, if it leads there."""
        key = (module.name, chain)
        if key not in self._seen:
            self._seen[key] = None  # for a circle of imports
            self._seen[key] = self._resolve_new(module, chain, line)
        return self._seen[key]

    def _resolve_new(self, module: Module, chain: tuple[str, ...], line: int) -> str | None:
        file, (name, *rest) = module.file, chain
        assert file is not None
        outside = None
        is_found = name in file
        if is_found:
            if (module.name, name) not in self._pieces:
                self._pieces.add((module.name, name))
                self._waiting.append((module, name))
            for target in file.piece(name).targets:
                outside = self._follow_target(module, target, tuple(rest), line) or outside
            value = chain_of(file.assigned(name))
            if value and value[0] != name:
                outside = self._resolve(module, (*value, *rest), line) or outside
        for star in file.stars:
            other = self._module_of(module, star)
            if other is None:
                if not is_found and not hasattr(builtins, name):
                    self.parts[f"{module.name}.*"] = f"= {star.module}.*"
            elif self._provides(other, name, set()):
                is_found = True
                outside = self._attribute(other, chain, module, line) or outside
        return outside if is_found else name

    def _note_computed(self, module: Module, line: int, outside: str | None) -> None:
        if outside in COMPUTED:
            self.note(module, line, COMPUTED[outside])

    def _follow_target(self, module: Module, target: Target, rest: tuple[str, ...], line: int) -> str | None:
        other = self._module_of(module, target)
        chain = rest if target.name is None else (target.name, *rest)
        if other is None:
            return ".".join((target.module, *chain))
        below = self.modules.find(chain[0], other.folder) if chain and other.file is module.file else None
        if below is not None:  # from . import submodule
            return self._attribute(below, chain[1:], module, line)
        return self._attribute(other, chain, module, line)

    def _attribute(self, module: Module, chain: tuple[str, ...], reader: Module, line: int) -> str | None:
        """Reach an attribute of a module, which a line of ``reader`` reads; all names if the module itself is used as a value."""
        file = module.file
        if not chain:
            for name in file.names() if file is not None else ():
                assert file is not None
                if not any(one.name is None for one in file.piece(name).targets):
                    self._resolve(module, (name,), line)
            return None
        if file is not None and (chain[0] in file or self._provides(module, chain[0], set())):
            return self._resolve(module, chain, line)
        below = self.modules.find(chain[0], module.folder)
        if below is not None:
            return self._attribute(below, chain[1:], reader, line)
        if file is not None and "__getattr__" in file:
            return self._resolve(module, ("__getattr__",), line)
        if not chain[0].startswith("__"):
            self.note(reader, line, f"{module.name}.{chain[0]} is not defined by a statement of its module")
        return None

    def _provides(self, module: Module, name: str, seen: set[str]) -> bool:
        """Return whether ``from module import *`` imports a name."""
        file = module.file
        if file is None or module.name in seen:
            return False
        seen.add(module.name)
        if name in file:
            return name in file.exported()
        others = [self._module_of(module, star) for star in file.stars]
        return any(one is not None and self._provides(one, name, seen) for one in others)

    def _module_of(self, module: Module, target: Target) -> Module | None:
        """Return the module that an import statement names; None if it is not the project's."""
        if not target.level:
            return self.modules.find(target.module)
        folder = module.package
        for _ in range(target.level - 1):
            folder = folder.parent
        return self.modules.find(target.module, folder) if self.modules.within(folder) is not None else None

    def _target_name(self, module: Module, target: Target) -> str:
        other = self._module_of(module, target)
        name = other.name if other is not None else target.module
        return name if target.name is None else f"{name}.{target.name}"

    def _is_ours(self, module: Module, chain: tuple[str, ...], seen: set[tuple[str, str]]) -> bool:
        """Return whether a decorator is one of this library, or was made by it: how a function is run does not change what it does."""
        file = module.file
        if not chain or file is None or chain[0] not in file or (module.name, chain[0]) in seen:
            return False
        seen.add((module.name, chain[0]))
        if any(self._leads_to_us(module, one, chain[1:], seen) for one in file.piece(chain[0]).targets):
            return True
        value = file.assigned(chain[0])
        return value is not None and self._is_ours(module, decorator_chain(value), seen)

    def _leads_to_us(self, module: Module, target: Target, rest: tuple[str, ...], seen: set[tuple[str, str]]) -> bool:
        other = self._module_of(module, target)
        rest = rest if target.name is None else (target.name, *rest)
        if other is None:
            return target.module.partition(".")[0] == "taskfleet"
        while rest and (other.file is None or rest[0] not in other.file):
            below = self.modules.find(rest[0], other.folder)
            if below is None:
                return False
            other, rest = below, rest[1:]
        return self._is_ours(other, rest, seen)
