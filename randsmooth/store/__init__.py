"""Certification runs on disk: votes in a file that only ever grows."""

from randsmooth.store.vote_store import VoteStore

__all__ = ["VoteStore"]
