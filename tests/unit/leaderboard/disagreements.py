"""What verification finds against a record."""

from __future__ import annotations

from leaderboard.verify import verify


def problems_and_disagreements(path):
    verification = verify(path)
    return verification.problems, [finding.what for finding in verification.findings if not finding.agrees]
