"""CPU limits of the control group, versions 1 and 2, from the files below a root path."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

VERSION_1 = ("cpu,cpuacct", "cpu")  # where distributions mount the controller


def cpu_folders(root: Path = Path("/"), mounted: Path | None = None) -> Iterator[Path]:
    """Folders with this process's CPU limits, its own group first, then those around it. `mounted` is where the groups are if not in the
    usual place below `root`.

    A container may see its group at the mount's root though /proc/self/cgroup names the host's path: what does not exist is left out.
    """
    paths = _membership(root)
    base = mounted or root / "sys/fs/cgroup"
    mounts = [(base, paths.get("")), *((base / name, paths.get("cpu")) for name in VERSION_1)]
    for mount, own in mounts:
        if not (
            (mount / "cpu.max").exists() or (mount / "cgroup.procs").exists() or (mount / "cpu.cfs_quota_us").exists()
        ):
            continue
        folder = mount / (own or "/").lstrip("/")
        while folder != mount:
            if folder.is_dir() and ".." not in folder.parts:
                yield folder
            folder = folder.parent
        yield mount


def quota_cores(root: Path = Path("/"), mounted: Path | None = None) -> float | None:
    """The least CPU quota of this process's control groups, in cores; None where there is no limit or none can be read."""
    limits = [limit for folder in cpu_folders(root, mounted) if (limit := _limit(folder)) is not None]
    return min(limits, default=None)


def visible_quota(root: Path = Path("/")) -> float | None:
    """As `quota_cores`. Raises FileNotFoundError where no control group is to be seen at all, as in a container without /sys:
    there may be a limit then.
    """
    if next(cpu_folders(root), None) is None:
        raise FileNotFoundError
    return quota_cores(root)


def throttled_s(root: Path = Path("/")) -> float | None:
    """Seconds for which quotas held this process's control groups back; None where that cannot be read."""
    found = [seconds for folder in cpu_folders(root) if (seconds := _held_back(folder)) is not None]
    return max(found, default=None)


def _membership(root: Path) -> dict[str, str]:
    """Controller → path of this process's group; version 2 is under the empty name."""
    found: dict[str, str] = {}
    try:
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            found |= dict.fromkeys(controllers.split(","), path)
    except (OSError, ValueError):
        pass
    return found


def _limit(folder: Path) -> float | None:
    try:
        limit, period = (folder / "cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        pass
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        return None if quota <= 0 else quota / int((folder / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _held_back(folder: Path) -> float | None:
    try:
        fields = dict(line.split() for line in (folder / "cpu.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    try:
        if "throttled_usec" in fields:
            return int(fields["throttled_usec"]) / 1e6
        return int(fields["throttled_time"]) / 1e9 if "throttled_time" in fields else None
    except ValueError:
        return None
