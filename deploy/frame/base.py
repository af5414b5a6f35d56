"""Finds the base: the commit of the frame that a copy was made of, or last brought up to date with."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from deploy.frame.git import Git, ImpossibleError
from deploy.frame.ownership import is_left_out, is_yours
from deploy.frame.trees import Copy, Repository, Tree
from utils.version import frame_version

LEAST_SHARE = 0.3  # of the files equal to a commit's: a copy of which less is left is none that could be merged


@dataclass(frozen=True, slots=True)
class Base:
    commit: str
    how: str  # why it is taken for the base


def find_base(given: str, copy: Copy, frame: Repository) -> Base:
    """As given, by `.frame`, or by shared history. Else ImpossibleError names the likeliest, to be confirmed."""
    if given:
        return Base(_known(given, frame), "as given")
    told = frame_version(copy.root / ".frame").commit
    if told:
        commit = frame.git.tries("rev-parse", "--verify", "--quiet", f"{told}^{{commit}}")
        if not commit:
            why = (
                "it was cloned with --depth and lacks history; run `git fetch --unshallow` in it"
                if frame.lacks_history
                else "the copy is newer, or FROM is another frame; take a newer FROM, or say with BASE=… which commit"
                " it goes back to"
            )
            raise ImpossibleError(f"this copy has commit {told[:10]} of the frame, which is not in FROM: {why}")
        return Base(commit, "by .frame")
    shared, likeliest = _shared(copy.root, frame), likeliest_base(copy, frame)
    if shared and likeliest.equal <= equal_files(copy, frame.tree(shared)):  # else files were taken over by hand
        return Base(shared, "by shared history")
    if likeliest.share < LEAST_SHARE:
        raise ImpossibleError(
            f"{copy.root} is no copy of this frame: no commit has more than a few files that are equal"
        )
    raise ImpossibleError(
        f"nothing says of which commit this copy was made. The likeliest is {likeliest.commit[:10]}:"
        f" {likeliest.equal} of {likeliest.files} files ({likeliest.share:.0%}) are equal to it."
        f" If it is that one, say so: BASE={likeliest.commit[:10]}"
    )


@dataclass(frozen=True, slots=True)
class Likeness:
    """How much of a copy is as in a commit. `files`: those that the commit and the copy could share."""

    commit: str
    equal: int
    files: int

    @property
    def share(self) -> float:
        return self.equal / max(self.files, 1)


def likeliest_base(copy: Copy, frame: Repository) -> Likeness:
    """The commit with most equal files; of several, the one whose other files are closest; of those, the newest."""
    commits = frame.git.text("rev-list", "--all").split()
    if not commits:
        return Likeness("", 0, 0)
    trees = frame.trees(commits)
    counts = [equal_files(copy, tree) for tree in trees]
    first = [index for index, count in enumerate(counts) if count == max(counts)]
    closest = min(first, key=lambda index: (_differences(copy, trees[index], frame), index))
    return Likeness(commits[closest], counts[closest], sum(_shared_path(path, copy) for path in trees[closest]))


def equal_files(copy: Copy, tree: Tree) -> int:
    return sum(copy.blob(path) == entry.blob and not is_yours(path) for path, entry in tree.items())


def _shared_path(path: str, copy: Copy) -> bool:
    return not is_yours(path) and (copy.read(path) is not None or not is_left_out(path))


def _differences(copy: Copy, tree: Tree, frame: Repository) -> int:
    """Lines in which files of both differ, and a great many for each file that is missing on one side."""
    lines = 0
    for path, entry in tree.items():
        content = copy.read(path)
        if is_yours(path) or copy.blob(path) == entry.blob:
            continue
        if content is None:
            lines += 0 if is_left_out(path) else 1000
            continue
        here, there = Counter(content.splitlines()), Counter(frame.content(entry.blob).splitlines())
        lines += ((here - there) + (there - here)).total()
    return lines


def _shared(root: Path, frame: Repository) -> str:
    """The newest commit of the copy's history that the frame knows, too."""
    git = Git(root)
    if not git.is_there() or git.text("rev-parse", "--show-prefix") or not git.agrees("rev-parse", "HEAD"):
        return ""  # no repository, or that of something around the copy
    ours = set(frame.git.text("rev-list", "--all").split())
    return next((commit for commit in git.tries("rev-list", "--topo-order", "HEAD").split() if commit in ours), "")


def _known(commit: str, frame: Repository) -> str:
    found = frame.git.tries("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}")
    if not found:
        raise ImpossibleError(f"BASE={commit}: FROM has no such commit")
    return found
