"""What an update would change: three trees, the base, the new version and yours, merged by git. Changes no copy.

Yours goes by the frame's new paths before it is merged: where the history of the frame says that a file was moved, your
edits go with it, however much it has changed since.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from deploy.frame import lists, values
from deploy.frame.git import ImpossibleError
from deploy.frame.ownership import is_left_out, is_yours, is_yours_once_edited
from deploy.frame.trees import Copy, Entry, Repository, Tree, blob_of, is_text
from utils.version import frame_version

DEFAULTS, CONFIG, FRAME = "defaults.py", "config.py", ".frame"


@dataclass(slots=True)
class Plan:
    """`writes` and `deletes` are all that changes in the copy; `conflicts` says for each path what is wrong."""

    writes: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # path: mode and content, as they lie there
    deletes: list[str] = field(default_factory=list)
    conflicts: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)  # path: why it stays as it is, or what stays of it
    moved_values: Mapping[str, str] = field(default_factory=dict)  # of config.py, now in defaults.py
    merged_locks: bool = False


def planned(copy: Copy, frame: Repository, base: str, new: str) -> Plan:
    """The way from commit `base` to commit `new` for this copy. Its `.frame` is not in it."""
    exported = frame.exported(base)
    return _Merge(copy, frame, frame.tree(base), frame.tree(new), exported, renames(frame, base, new)).plan()


def renames(frame: Repository, base: str, new: str) -> dict[str, str]:
    """New paths by old ones, step by step through the history: small steps keep files alike enough to be told."""
    if frame.git.agrees("merge-base", "--is-ancestor", new, base) and base != new:
        return {moved: old for old, moved in renames(frame, new, base).items()}
    if not frame.git.agrees("merge-base", "--is-ancestor", base, new):
        return dict(_renamed(frame.git.run("diff", "-z", "-M", "--name-status", "--diff-filter=R", base, new).decode()))
    steps = ("log", "-z", "--reverse", "--topo-order", "-m", "--first-parent", "--format=", "-M", "--name-status")
    found: dict[str, str] = {}
    log = frame.git.run(*steps, "--diff-filter=R", f"{base}..{new}").decode()
    for old, moved in _renamed(log):
        begun = next((first for first, last in found.items() if last == old), old)
        found[begun] = moved
    return found


def _renamed(told: str) -> list[tuple[str, str]]:
    words = [word for word in told.split("\0") if word.strip()]
    return list(zip(words[1::3], words[2::3], strict=True))


@dataclass(slots=True)
class _Merge:
    copy: Copy
    frame: Repository
    base: Tree
    new: Tree
    exported: Collection[str]  # of the base: what a slim copy of it has
    renames: Mapping[str, str]
    _plan: Plan = field(default_factory=Plan)
    _in_the_way: set[str] = field(default_factory=set)  # paths of files of yours where the frame has new ones

    def plan(self) -> Plan:
        left = self._left_by_the_user()
        base = {path: entry for path, entry in self.base.items() if self._is_merged(path) and path not in left}
        edited = {path for path, entry in base.items() if self._is_yours_by_now(path, entry)}
        base = {path: entry for path, entry in base.items() if path not in edited}
        then = {self._now(path): entry for path, entry in base.items()}
        news = {path: entry for path, entry in self.new.items() if self._is_merged(path)}
        gone = {self._now(path) for path in left if not self._was_left_out(path)}
        gone |= edited | {self._now(path) for path in edited}
        news = {
            path: entry
            for path, entry in news.items()
            if path in then or (path not in gone and not self._in_a_folder_left(path))
        }
        yours = {self._now(path): self._mine(path, entry) for path, entry in base.items()}
        moved = {now for path in base if (now := self._now(path)) != path and now not in self.base}
        for path in (news.keys() - then.keys()) | (moved & news.keys()):
            self._new_where_something_is(path, news, then, yours)
        self._write(base, self._merged(then, news, yours))
        self._merge_lists(left)
        self._add_what_is_missing_of_yours()
        return self._plan

    # ------------------------------------------------------------ what belongs into the trees

    def _is_merged(self, path: str) -> bool:
        """Not what a slim copy does without: what is there under such a name has nothing to do with the frame's."""
        is_slim = frame_version(self.copy.root / FRAME).left_out
        if is_slim and is_left_out(path) and ("/" not in path or self._was_left_out(path)):
            return False
        return not is_yours(path) and not lists.is_list(path) and path != FRAME

    def _now(self, path: str) -> str:
        now = self.renames.get(path, path)
        return now if now in self.new else path

    def _left_by_the_user(self) -> set[str]:
        """Files of the base that are not in the copy: deleted, or left out from the beginning."""
        left = {path for path in self.base if not is_yours(path) and self.copy.read(path) is None}
        for path in left:
            if path != FRAME and not is_left_out(path) and not self._was_left_out(path):
                self._plan.kept[self._now(path)] = "you have deleted it"
        return left

    def _was_left_out(self, path: str) -> bool:
        """By the base, and not by the user. It comes with a version that has it in another place, or for copies too."""
        names = frame_version(self.copy.root / FRAME).left_out.split()
        return path.split("/")[0] in names and path not in self.exported

    def _in_a_folder_left(self, path: str) -> bool:
        """Whether it would come back into a folder that the copy does without."""
        if is_left_out(path) and frame_version(self.copy.root / FRAME).left_out:
            return True
        folders = [path[:end] for end in range(len(path)) if path[end] == "/"]
        return any(self._is_left(f"{folder}/") for folder in folders)

    def _is_left(self, folder: str) -> bool:
        before = [path for path in self.base if path.startswith(folder) and self._is_merged(path)]
        before = [path for path in before if path != f"{folder}__init__.py" and not self._was_left_out(path)]
        return len(before) > 0 and all(self.copy.read(path) is None for path in before)

    def _is_yours_by_now(self, path: str, entry: Entry) -> bool:
        if not is_yours_once_edited(path) or self.copy.blob(path) == entry.blob:
            return False
        if self.new.get(path) != entry:
            self._plan.kept[path] = "you have edited it: it is yours now"
        return True

    def _mine(self, path: str, entry: Entry) -> Entry:
        """Your file, with the mode of the base: whether it can be run is lost on many ways."""
        content = self.copy.read(path) or b""
        if path == CONFIG and DEFAULTS not in self.base and blob_of(content) != entry.blob:
            was = self.frame.content(entry.blob).decode()
            text, self._plan.moved_values = values.moved(was, self._text(path, content))
            content = text.encode()
        blob = blob_of(content)
        return Entry(entry.mode, entry.blob if blob == entry.blob else self.frame.keep(content))

    def _text(self, path: str, content: bytes) -> str:
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise ImpossibleError(f"{self.copy.root / path} is not in UTF-8: save it so") from None

    def _new_where_something_is(
        self, path: str, news: dict[str, Entry], then: dict[str, Entry], yours: dict[str, Entry]
    ) -> None:
        if self.copy.read(path) is None or path in self.base:  # there, what was moved away makes room
            return
        if self.copy.blob(path) == news[path].blob:  # it is there already
            then[path] = yours[path] = news[path]
        elif is_yours_once_edited(path):
            self._plan.kept[path] = "yours is where the frame has one now"
            del news[path]
        else:
            self._plan.conflicts[path] = "the frame adds a file where one of yours is: give yours another name"
            self._in_the_way.add(path)

    # ------------------------------------------------------------ the merge

    def _merged(self, then: Tree, news: Tree, yours: Tree) -> dict[str, Entry]:
        start = self.frame.commit(then)
        for name, files in (("yours", yours), ("frame", news)):  # what stands beside git's marks
            self.frame.git.run("update-ref", f"refs/{name}", self.frame.commit(files, start))
        settings = ("-c", "merge.directoryRenames=false", "-c", "merge.conflictStyle=merge")
        merge = ("merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", "yours", "frame")
        told = self.frame.git.run(*settings, *merge, takes=(0, 1))
        tree, *conflicts = [word for word in told.decode().split("\0") if word]
        merged = self.frame.tree(tree)
        for path in conflicts:
            both = path in news and path in yours
            self._plan.conflicts.setdefault(
                path,
                "you and the frame have changed the same lines"
                if both
                else "you have edited it, and the frame does without it now",
            )
            if both and merged[path] == yours[path]:  # git marks texts only
                self._put_beside(path, news[path].mode, self.frame.content(news[path].blob))
        edited = {path for path, entry in yours.items() if then[path] != entry}
        for path in sorted(edited - self._plan.conflicts.keys()):
            self._plan.kept[path] = (
                "your edits are in it" if merged.get(path) != news.get(path) else "as the frame's now"
            )
        return merged

    def _write(self, base: Tree, merged: Tree) -> None:
        """What differs from what lies in the copy."""
        paths = {self._now(path): path for path in base}
        contents = self.frame.contents(entry.blob for entry in merged.values())
        for path, entry in merged.items():
            before = paths.get(path, path)
            if path in self._in_the_way:
                self._put_into(path, entry.mode, contents[entry.blob])
                continue
            if before in base and base[before].mode != entry.mode:  # also where only that has changed
                self._plan.writes[path] = (entry.mode, self.copy.as_here(before, contents[entry.blob]))
            self._take(path, entry.mode, contents[entry.blob], before)
        self._plan.deletes = sorted(set(base) - set(merged))

    def _take(self, path: str, mode: str, content: bytes, before: str) -> None:
        here = self.copy.read(before)
        if here == content and before == path:
            return
        self._plan.writes[path] = (mode, self.copy.as_here(before, content))

    def _put_into(self, path: str, mode: str, content: bytes) -> None:
        """With marks, as git does where both add a file."""
        mine = self.copy.read(path) or b""
        if is_text(mine) and is_text(content):
            self._take(path, mode, lists.marked(mine.decode(), content.decode()).encode(), path)
        else:
            self._put_beside(path, mode, content)

    def _put_beside(self, path: str, mode: str, content: bytes) -> None:
        beside = f"{path}.frame"
        self._plan.conflicts[path] += f"; ARGS=--markers writes the frame's as {beside}"
        self._take(beside, mode, content, beside)

    # ------------------------------------------------------------ what git does not merge

    def _merge_lists(self, left: Iterable[str]) -> None:
        for path, entry in self.new.items():
            if not lists.is_list(path) or path in left:
                continue
            new, mine = self.frame.content(entry.blob), self.copy.read(path)
            was = self.frame.content(self.base[path].blob) if path in self.base else b""
            if mine is None:
                self._take(path, entry.mode, new, path)
                continue
            try:
                merged = lists.merged(path, was.decode(), new.decode(), self._text(path, mine)).encode()
            except lists.Differing as differing:
                self._plan.conflicts[path] = f"you and the frame have each changed, or added, the line of {differing}"
                merged = differing.marked.encode()
            if mine != was and path not in self._plan.conflicts:
                self._plan.kept[path] = "your lines are in it"
            self._plan.merged_locks |= path in lists.LOCKS and merged not in (mine, new)
            self._take(path, entry.mode, merged, path)

    def _add_what_is_missing_of_yours(self) -> None:
        """A file of yours that your version did not know yet, as defaults.py, with what you had set elsewhere."""
        for path, entry in self.new.items():
            if is_yours(path) and path not in self.base and self.copy.read(path) is None:
                content = self.frame.content(entry.blob)
                if path == DEFAULTS:
                    content = values.with_values(content.decode(), dict(self._plan.moved_values)).encode()
                self._plan.writes[path] = (entry.mode, self.copy.as_here(path, content))
