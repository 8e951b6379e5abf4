"""A claim, ``attempts/NAME`` in a launch's folder, says who drives the attempt of that name: made once, whole or not.

Whoever would drive an attempt makes it first, and leaves where it is there already. So starting one attempt twice is
harmless, also after a crash of whoever starts, who cannot know how far he came. It lies in the launch's folder, not in
the run's: that one may not exist yet, or not be reached from here.
"""

from pathlib import Path

# sh -c CLAIMING CLAIM COMMAND...: becomes the command, or ends with 0 where another has the claim. A link, for a file
# made by ``set -C`` would stand there empty for a moment, and for ever after a kill in it.
CLAIMING = """
started() { read -r line <"/proc/$$/stat" && set -- ${line##*) } && echo "${20}"; }
machine() { echo "$(cat /proc/sys/kernel/random/boot_id) $(readlink /proc/self/ns/pid)"; }
mine="$$ $(started) $(machine)"
mkdir -p "${0%/*}" && echo "$mine" >"$0.$$" || exit
ln "$0.$$" "$0" 2>/dev/null
rm -f "$0.$$"
theirs=$(cat "$0") || exit
[ "$theirs" != "$mine" ] || exec "$@"
"""


def claim_of(folder: Path, attempt: str) -> Path:
    """Where the claim of the attempt of that name lies in a launch's folder."""
    return folder / "attempts" / attempt


def claimed(folder: Path, attempt: str) -> str:
    """What the claim of an attempt says, '' where there is none."""
    try:
        return claim_of(folder, attempt).read_text(encoding="utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):
        return ""
