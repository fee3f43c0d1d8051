"""pytest plugin: how ``make test`` spreads the tests over its workers (``-n 2``).

A file's tests run in one worker, so that what it exports once is exported once; files known to be
long go first, so that no worker ends long after the others. Tests marked ``emulator`` share one adb
server and run in one worker; tests marked ``serial`` run when every other test is done.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

SERIAL = "serial"
GROUPS = (SERIAL, "emulator")
"""Markers whose tests are one unit of work, whatever files they stand in."""

LONGEST = (
    "test_main_job.py",
    "test_runtime_contract.py",
    "test_android_harness_emulator.py",
    "test_android_harness_faults.py",
    "test_scales.py",
    "test_android_harness_native.py",
    "test_export_coreml.py",
    "test_mil_mutants.py",
    "test_mil_peer.py",
)
"""Files that start first, because they are long; the others follow."""

_FOLDER = "folder"
"""Where each worker says which tests are in a group: xdist itself passes on ids only."""


def pytest_configure(config: pytest.Config) -> None:
    if config.pluginmanager.hasplugin("xdist"):
        config.pluginmanager.register(Spread(config))


class Spread:
    """The hooks, apart, because without xdist nobody calls for a scheduler."""

    def __init__(self, config: pytest.Config) -> None:
        given = getattr(config, "workerinput", None)
        self._is_worker = given is not None
        if given is not None:
            self._folder = Path(given[_FOLDER])
        else:
            scratch = tempfile.TemporaryDirectory()
            config.add_cleanup(scratch.cleanup)
            self._folder = Path(scratch.name)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: WorkerController) -> None:
        node.workerinput[_FOLDER] = str(self._folder)

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        if self._is_worker:
            items.sort(key=lambda item: (_group_of(item) == SERIAL, _rank(item)))
            groups = {item.nodeid: _group_of(item) for item in items if _group_of(item)}
            name = config.workerinput["workerid"]  # type: ignore[attr-defined]
            (self._folder / name).write_text(json.dumps(groups))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config) -> WholeFiles:
        return WholeFiles(config, self._folder)


def _group_of(item: pytest.Item) -> str | None:
    return next((name for name in GROUPS if item.get_closest_marker(name)), None)


def _rank(item: pytest.Item) -> int:
    return LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST)


class WholeFiles(LoadScopeScheduling):  # type: ignore[misc]
    """xdist's scheduler by scope, where a scope is a file or a group.

    Units start in the order in which the workers sorted them. The one marked ``serial`` waits for
    one worker, which keeps it, until the others have nothing left.
    """

    def __init__(self, config: pytest.Config, folder: Path) -> None:
        super().__init__(config, Producer("schedule", enabled=False))
        config.option.loadscopereorder = False
        self._folder = folder
        self._groups: dict[str, str] = {}

    def schedule(self) -> None:
        for path in self._folder.iterdir():
            self._groups.update(json.loads(path.read_text()))
        super().schedule()

    def mark_test_complete(
        self, node: WorkerController, item_index: int, duration: float = 0
    ) -> None:
        super().mark_test_complete(node, item_index, duration)
        if self._serial_is_next():
            for waiting in self.nodes:
                self._reschedule(waiting)

    def _split_scope(self, nodeid: str) -> str:
        return self._groups.get(nodeid, nodeid.split("::")[0])

    def _reschedule(self, node: WorkerController) -> None:
        if node.shutting_down or not self._serial_is_next():
            super()._reschedule(node)
        elif node is not next(one for one in self.nodes if not one.shutting_down):
            node.shutdown()
        elif not self._others_work(node):
            super()._reschedule(node)

    def _assign_work_unit(self, node: WorkerController) -> None:
        if not (self._serial_is_next() and self._others_work(node)):
            super()._assign_work_unit(node)

    def _serial_is_next(self) -> bool:
        return next(iter(self.workqueue), None) == SERIAL

    def _others_work(self, node: WorkerController) -> bool:
        work = self.assigned_work.items()
        return any(self._pending_of(units) for other, units in work if other is not node)
