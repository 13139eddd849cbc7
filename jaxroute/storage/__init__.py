"""Atomic files, locks, caches and digests: everything about disks that knows nothing of models or prompts.

Add here what writes, locks or hashes files for several rooms; one idea per file. What reads a published format belongs in
`data`.
"""
