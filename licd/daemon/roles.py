"""What a peer may do, by the kernel's word about who it is."""

from __future__ import annotations

import os

from licd.daemon.methods import ADMIN, ANY, CLIENT, COURIER

_NOBODY = frozenset((ANY,))
_CLIENT = frozenset((ANY, CLIENT))
_COURIER = frozenset((ANY, COURIER))  # it speaks with the internet: what it does not need, it may not
_ADMIN = frozenset((ANY, CLIENT, COURIER, ADMIN))


def roles(
    uid: int, gids: frozenset[int], *, admin_gid: int | None, courier_gid: int | None, overflow_uid: int
) -> frozenset[str]:
    """The roles of a peer. One whom the kernel cannot name may only be told so."""
    if uid == overflow_uid:  # first: a licd that runs as nobody, or a group, must not make everybody an administrator
        return _NOBODY
    if uid == 0 or uid == os.geteuid() or (admin_gid is not None and admin_gid in gids):
        return _ADMIN
    if courier_gid is not None and courier_gid in gids:
        return _COURIER
    return _CLIENT
