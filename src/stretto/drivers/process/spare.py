"""Trees that an attempt left as it found them, for the next attempts of the same run on the same layers.

To mount a tree and take it away again is half of what a short job costs. So the tree of an attempt that is over serves another
one if it is proven to be as new: nothing in it was ever changed, and no process works in it or has anything of it open. Until
then it stays where it is, in its attempt's directory beside the key; so what a crash leaves of it is found and removed like
any attempt that has ended.
"""

from __future__ import annotations

import os

from stretto.core.ports import Launch, Tree
from stretto.drivers.process.folder import Folder
from stretto.sources.workspace import is_as_new, state_of

Sort = tuple[str, Tree | None]
"""The run and the layers: trees of one sort may stand for each other. Of one run, as nobody else removes what a live one has."""


class Spares:
    """The spare trees of one driver. Not to be called while the same attempt is under way in another call."""

    def __init__(self) -> None:
        self._states: dict[str, tuple[Sort, tuple[object, ...]]] = {}
        self._spares: dict[Sort, dict[str, Folder]] = {}

    def take(self, launch: Launch, folder: Folder) -> bool:
        """Move a spare tree into the attempt's directory, which has none; say whether there was one."""
        sort = (launch.key.run_id, launch.tree)
        if launch.tree is None or not (spares := self._spares.get(sort)):
            return False
        key, old = spares.popitem()
        state = self._states.pop(key)
        try:
            os.rename(old.view, folder.view)  # noqa: PTH104 - what is mounted beneath moves along
        except OSError:
            return False  # somebody has removed it behind our back
        self._states[launch.key.text] = state
        try:
            old.delete()
        except OSError:
            pass  # its key makes it an orphan, which is found later
        return True

    def note(self, launch: Launch, folder: Folder) -> None:
        """Remember the state of a tree that was just made."""
        if launch.tree is not None and (state := state_of(folder.view)) is not None:
            self._states[launch.key.text] = ((launch.key.run_id, launch.tree), state)

    def keep(self, key: str, folder: Folder) -> bool:
        """Keep the tree of an attempt whose processes are gone, if it is as new, and nothing else of it; say whether. OSError."""
        if key not in self._states:
            return False
        sort, state = self._states[key]
        if not is_as_new(folder.view, state):
            return False
        folder.clear()
        self._spares.setdefault(sort, {})[key] = folder
        return True

    def forget(self, key: str) -> None:
        """Forget an attempt whose tree is about to be removed."""
        if (known := self._states.pop(key, None)) is not None:
            self._spares.get(known[0], {}).pop(key, None)

    def drain(self) -> list[Folder]:
        """Return the directories of the attempts whose trees were kept, to be removed; none is kept any more."""
        drained = [item for spares in self._spares.values() for item in spares.items()]
        for key, _ in drained:
            self.forget(key)
        return [folder for _, folder in drained]
