"""Brings a copy to another version of the frame: finds the base, merges, shows what changes, and applies it."""

import re
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from tempfile import TemporaryDirectory

from deploy.frame import changelog
from deploy.frame.apply import alone, apply, finish_what_was_begun, refuse_what_cannot_be_written, saved
from deploy.frame.base import find_base
from deploy.frame.git import Git, ImpossibleError, require
from deploy.frame.merge import FRAME, Plan, planned
from deploy.frame.trees import Copy, Repository
from utils.version import FrameVersion, frame_version, parsed

DONE, CONFLICTS, IMPOSSIBLE, OUTDATED = 0, 1, 2, 3
SHOWN = 12  # lines of a list; the rest is counted
MAPS = re.compile(r'^_VERSION = "(.+)"$', re.MULTILINE)  # which forms of a commit a version writes


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for. `frame`: a repository with both versions; `base`: empty where it shall be found."""

    copy: Path
    frame: Path
    to: str
    base: str = ""
    check: bool = False
    markers: bool = False
    back: bool = False  # an older version is meant


def update(wish: Wish) -> int:
    """The exit code; all that is told goes to standard output. Raises ImpossibleError before anything has changed."""
    require(Git(wish.copy))
    if not (wish.copy / "worker.py").exists() and not (wish.copy / "config.py").exists():
        raise ImpossibleError(f"{wish.copy} is no copy of this frame: it has neither worker.py nor config.py")
    if Git(wish.frame).tries("rev-parse", "--is-shallow-repository") == "true":
        raise ImpossibleError(f"{wish.frame} was cloned with --depth and lacks history: `git fetch --unshallow` in it")
    with alone(wish.copy), TemporaryDirectory(prefix="frame-update-") as directory:
        if not wish.check and finish_what_was_begun(wish.copy):
            print(f"an update that was interrupted is ended now: {wish.copy} has {frame_version(wish.copy / FRAME)}")
            return DONE
        return _update(wish, Repository.beside(wish.frame, Path(directory)))


def _update(wish: Wish, frame: Repository) -> int:
    copy = Copy(wish.copy)
    new = Git(wish.frame).text("rev-parse", "--verify", f"{wish.to}^{{commit}}")
    frame.git.run("fetch", "--quiet", str(wish.frame.resolve()), "+refs/*:refs/*")
    base = find_base(wish.base, copy, frame)
    before, after = version_of(frame, base.commit), version_of(frame, new)
    if base.commit == new:
        print(f"{wish.copy} is current: {after} ({base.how})")
        return DONE
    is_older = frame.git.agrees("merge-base", "--is-ancestor", new, base.commit)
    if is_older and wish.check:
        print(f"{wish.copy} is current: it has {before}, FROM has {after}")
        return DONE
    if is_older and not wish.back:
        raise ImpossibleError(f"this copy has {before}, which is newer than {after}: to go back, say so with TO=…")
    print(f"{before} -> {after} (the base is found {base.how})")
    if wish.check:
        return OUTDATED
    _refuse_what_is_not_committed(wish.copy)
    plan = planned(copy, frame, base.commit, new)
    refuse_what_cannot_be_written(wish.copy, plan)
    _tell(plan)
    if plan.conflicts and not wish.markers:
        print("nothing was changed. ARGS=--markers writes what can be merged, and the conflicts as git marks them")
        return CONFLICTS
    _tell_news(frame, base.commit, new, is_older)
    left_out = frame_version(wish.copy / FRAME).left_out
    text = FrameVersion(after.version, new, left_out).text().encode()
    plan.writes[FRAME] = ("100644", copy.as_here(FRAME, text))
    undo, saved_files = _undo(wish.copy, plan, after)
    print(undo)
    apply(wish.copy, plan, saved_files)
    return CONFLICTS if plan.conflicts else DONE


def version_of(frame: Repository, commit: str) -> FrameVersion:
    text = frame.git.tries("show", f"{commit}:{FRAME}")
    return FrameVersion(parsed(text).version, commit)


def _refuse_what_is_not_committed(copy: Path) -> None:
    git = Git(copy)
    if not git.is_there():
        return
    # All: what undoes an update removes them, also where somebody's git does not show them.
    told = git.run("status", "--porcelain", "-z", "--untracked-files=all", "--ignore-submodules=none", "--", ".")
    changed = told.decode(errors="replace").split("\0")[:-1]
    if changed:
        raise ImpossibleError(
            f"{copy} has changes that are not committed ({changed[0][3:]}{' and others' if changed[1:] else ''}):"
            " commit or stash them, so that the update can be told from them, and undone"
        )


def _tell(plan: Plan) -> None:
    _tell_list("changed", [path for path in plan.writes if path != FRAME])
    _tell_list("removed or moved", plan.deletes)
    _tell_list("kept", [f"{path}: {why}" for path, why in sorted(plan.kept.items())])
    _tell_list("conflicts", [f"{path}: {why}" for path, why in sorted(plan.conflicts.items())], len(plan.conflicts))
    if plan.moved_values:
        print(f"your values of config.py are in defaults.py now: {', '.join(plan.moved_values)}")


def _tell_list(title: str, lines: list[str], most: int = SHOWN) -> None:
    if lines:
        print(f"{title}: {len(lines)}")
        for line in lines[:most]:
            print(f"  {line}")
        if len(lines) > most:
            print(f"  and {len(lines) - most} more")


def _tell_news(frame: Repository, base: str, new: str, is_older: bool) -> None:
    if is_older:
        unknown = _map_forms(frame, base) - _map_forms(frame, new)
        if unknown:
            print(
                "the older version does not understand all commits of this one: stop the workers when nothing waits."
                " Else it reads again what came since the oldest that waits: results come twice, and halves of what was"
                " finished are given up as incomplete"
            )
        return
    before, after = (frame.git.tries("show", f"{commit}:CHANGELOG.md") for commit in (base, new))
    todo, others = changelog.news(before, after)
    _tell_list("to do", todo, len(todo))
    print(f"{others} more entries are new in the frame's CHANGELOG.md")


def _map_forms(frame: Repository, commit: str) -> set[str]:
    forms = set()
    for path, entry in frame.tree(commit).items():
        if path.endswith(("/offsets.py", "/references.py")) and path.startswith("utils/"):
            forms |= set(MAPS.findall(frame.content(entry.blob).decode()))
    return forms


def _undo(copy: Path, plan: Plan, version: FrameVersion) -> tuple[str, tuple[Path, ...]]:
    """What is left to do, and how to undo it; and the files that this needs, beside the copy."""
    locks = "`make lock` makes the locks anew, for your additions; " if plan.merged_locks else ""
    marks = "choose where git's marks are, `<<<<<<< yours`; " if plan.conflicts else ""
    text = f"next: {marks}{locks}`make check`, `make test`, and commit it. To undo it all: "
    place = quote(str(copy))
    if _is_kept_by_git(copy, plan):
        return f"{text}git -C {place} checkout -- . && git -C {place} clean -fdq -- .", ()
    archive, added = saved(copy, plan, version.commit[:10])
    remove = f'while IFS= read -r file; do rm -f "$file"; done < ../{quote(added.name)}'
    return f"{text}cd {place} && {remove} && tar -xzf ../{quote(archive.name)}", (archive, added)


def _is_kept_by_git(copy: Path, plan: Plan) -> bool:
    """Whether git can bring back all that is changed, and knows what is added. A repository around may ignore it."""
    git = Git(copy)
    if not git.is_there():
        return False
    listed = git.run("ls-files", "-v", "-z", "--", ".").decode(errors="replace").split("\0")
    tracked = {each[2:] for each in listed if each.startswith("H ")}  # others: git was told to overlook their edits
    unknown = {path for path in (*plan.writes, *plan.deletes) if path not in tracked}
    if any((copy / path).exists() for path in unknown):
        return False
    paths = "\0".join([*unknown, ""]).encode()
    return not git.run("check-ignore", "--stdin", "-z", given=paths, takes=(0, 1))
