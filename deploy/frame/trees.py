"""Trees: what git keeps of a version, and what lies in a copy, as paths with their content. Writes only into git."""

import hashlib
import io
import stat
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from deploy.frame.git import Git, ImpossibleError


class Entry(NamedTuple):
    """A file: `100644` or `100755`, and the name that git gives to its content."""

    mode: str
    blob: str


Tree = Mapping[str, Entry]
FOLDER = "40000"
ALWAYS_UNIX = (".ci/", "deploy/")  # .gitattributes in them says the same to git: a shell takes no other line ends


def is_text(content: bytes) -> bool:
    try:
        return "\0" not in content.decode()
    except UnicodeDecodeError:
        return False


def blob_of(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository for this run, which sees the objects of the frame's and writes none there."""

    git: Git
    lacks_history: bool
    """Whether the frame's was cloned with --depth."""

    @classmethod
    def beside(cls, frame: Path, directory: Path) -> "Repository":
        git = Git(directory)
        git.run("init", "--quiet", "--bare", ".")
        objects = Path(frame, Git(frame).text("rev-parse", "--git-path", "objects")).resolve()
        (directory / "objects/info/alternates").write_text(f"{objects}\n")
        return cls(git, Git(frame).text("rev-parse", "--is-shallow-repository") == "true")

    def tree(self, name: str) -> dict[str, Entry]:
        """The files of a commit, or of a tree."""
        return self._trees([self.git.text("rev-parse", "--verify", f"{name}^{{tree}}")])[0]

    def trees(self, commits: Sequence[str]) -> list[dict[str, Entry]]:
        given = "\n".join(commits).encode()
        return self._trees(
            self.git.run("log", "--no-walk=unsorted", "--format=%T", "--stdin", given=given).decode().split()
        )

    def _trees(self, roots: Sequence[str]) -> list[dict[str, Entry]]:
        """A folder that many of them have is read once."""
        folders: dict[str, list[tuple[str, Entry]]] = {}
        missing = set(roots)
        while missing:
            folders |= {name: list(_parsed(content)) for name, content in self.contents(missing).items()}
            inner = {entry.blob for name in missing for _, entry in folders[name] if entry.mode == FOLDER}
            missing = inner - folders.keys()
        return [dict(_flat("", root, folders)) for root in roots]

    def exported(self, commit: str) -> set[str]:
        """The paths that `git archive` gives of it, and so `make copy`."""
        with tarfile.open(fileobj=io.BytesIO(self.git.run("archive", "--format=tar", commit))) as archive:
            return {member.name for member in archive if member.isfile()}

    def content(self, blob: str) -> bytes:
        return self.git.run("cat-file", "blob", blob)

    def contents(self, blobs: Iterable[str]) -> dict[str, bytes]:
        wanted = sorted(set(blobs))
        told = self.git.run("cat-file", "--batch", given="".join(f"{blob}\n" for blob in wanted).encode())
        found, at = {}, 0
        for blob in wanted:
            begins = told.index(b"\n", at) + 1
            size = int(told[at:begins].split()[2])
            found[blob], at = told[begins : begins + size], begins + size + 1
        return found

    def keep(self, content: bytes) -> str:
        return self.git.run("hash-object", "-w", "--stdin", given=content).decode().strip()

    def commit(self, tree: Tree, *parents: str) -> str:
        """A commit of these files; all of their contents are known to git."""
        index = {"GIT_INDEX_FILE": str(self.git.directory / "index")}
        lines = "".join(f"{entry.mode} {entry.blob}\t{path}\0" for path, entry in tree.items())
        self.git.run("read-tree", "--empty", environ=index)
        self.git.run("update-index", "-z", "--index-info", given=lines.encode(), environ=index)
        written = self.git.run("write-tree", environ=index).decode().strip()
        named = [word for parent in parents for word in ("-p", parent)]
        return self.git.run("commit-tree", written, *named, given=b"frame").decode().strip()


def _parsed(folder: bytes) -> Iterator[tuple[str, Entry]]:
    """What a folder holds, as git keeps it: `mode name`, a zero, and the 20 bytes of the name of the content."""
    at = 0
    while at < len(folder):
        ends = folder.index(b"\0", at)
        mode, name = folder[at:ends].decode().split(" ", 1)
        at = ends + 21
        yield name, Entry(mode, folder[ends + 1 : at].hex())


def _flat(prefix: str, folder: str, folders: Mapping[str, list[tuple[str, Entry]]]) -> Iterator[tuple[str, Entry]]:
    for name, entry in folders[folder]:
        if entry.mode == FOLDER:
            yield from _flat(f"{prefix}{name}/", entry.blob, folders)
        else:
            yield prefix + name, entry


@dataclass(slots=True)
class Copy:
    """The files of a copy as git would keep them: with line ends of Unix. Nothing is written here."""

    root: Path
    crlf: set[str] = field(default_factory=set)  # paths whose lines end as on Windows
    _read: dict[str, bytes | None] = field(default_factory=dict)
    _blobs: dict[str, str] = field(default_factory=dict)
    _folders: set[str] = field(default_factory=set)  # that are no links

    def read(self, path: str) -> bytes | None:
        """Its content; None where there is no such file."""
        if path not in self._read:
            self._read[path] = self._content(path)
        return self._read[path]

    def blob(self, path: str) -> str:
        """The name that git gives to its content; empty where there is no such file."""
        if path not in self._blobs:
            content = self.read(path)
            self._blobs[path] = "" if content is None else blob_of(content)
        return self._blobs[path]

    def _content(self, path: str) -> bytes | None:
        place = self.root / path
        self._refuse_links(path.rpartition("/")[0])
        try:
            kind = place.lstat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not stat.S_ISREG(kind):
            what = "a symbolic link" if stat.S_ISLNK(kind) else "no file"
            raise ImpossibleError(f"{place} is {what}: an update goes by plain files; put the file itself there")
        content = place.read_bytes()
        if b"\r\n" in content and is_text(content):
            self.crlf.add(path)
            return content.replace(b"\r\n", b"\n")
        return content

    def _refuse_links(self, folder: str) -> None:
        """What is written through one would change files of others."""
        if not folder or folder in self._folders:
            return
        self._refuse_links(folder.rpartition("/")[0])
        if (self.root / folder).is_symlink():
            raise ImpossibleError(f"{self.root / folder} is a symbolic link: put the folder itself there, or remove it")
        self._folders.add(folder)

    def as_here(self, path: str, content: bytes) -> bytes:
        """What git keeps of a file, with the line ends that it has in this copy; a new one has those of most."""
        if path.startswith(ALWAYS_UNIX):
            return content
        windows = path in self.crlf if self._read.get(path) is not None else len(self.crlf) * 2 > self._files()
        return content.replace(b"\n", b"\r\n") if windows and is_text(content) else content

    def _files(self) -> int:
        return sum(content is not None for content in self._read.values())
