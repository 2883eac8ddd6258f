"""Compare two records of what training computes, each value within the tolerance of its step."""

import math

# Relative tolerances, of each step: another CPU rounds otherwise, a ReLU flips, and every update enlarges that. Found
# by computing with SSE4.1 in place of AVX2, without oneDNN and with two threads, which differ by half of these at most.
TERMS = (1e-4, 1e-3, 3e-3, 1e-2)
GRADIENTS = (3e-2, 5e-2, 1e-1, 2e-1)
UPDATES, ANSWERS = 1e-2, 1e-3  # behind the last step
ALONG = 0.2  # of the update's component along the weights, which is small and mostly decay
BATCHES = 1e-5  # of batches, rates and other things that no network computes
SMALL = 1e-6  # absolute: below it nothing is told apart
SHARE_OF_PIXELS = 0.03  # that may change class


def differences(recorded, found, slack=1):
    """List what of two records is not the same within the tolerance of its step, one line each."""
    mine, theirs = dict(leaves(found)), dict(leaves(recorded))
    lines = [f"{' / '.join(path)}: missing" for path in theirs if path not in mine]
    lines += [f"{' / '.join(path)}: not recorded" for path in mine if path not in theirs]
    found = {path: told(path, value, mine[path], slack) for path, value in theirs.items() if path in mine}
    return lines + [f"{' / '.join(path)}: {line}" for path, line in found.items() if line]


def told(path, recorded, found, slack):
    """Say how a value differs from the recorded one; empty where it does not."""
    if "confusion" in path:
        moved = sum(abs(a - b) for a, b in zip(recorded, found, strict=True)) / 2
        allowed = SHARE_OF_PIXELS * sum(recorded)
        return f"{moved:.0f} pixels moved, {allowed:.0f} may" if moved > allowed else ""
    if path[0] == "settings" or not isinstance(recorded, float) or not isinstance(found, float):
        return "" if recorded == found else f"{found!r}, recorded {recorded!r}"
    relative, absolute = tolerance(path, slack)
    if math.isclose(recorded, found, rel_tol=relative, abs_tol=absolute):
        return ""
    off = abs(found - recorded) / max(abs(recorded), 1e-30)
    return f"{found:.7g}, recorded {recorded:.7g} ({off:.1e} off, {relative:.0e} allowed)"


def tolerance(path, slack):
    """Return the relative and absolute tolerance of a value by its place in the record."""
    if path[-1] == "along":
        return ALONG, 2 * SMALL
    if path[0] == "end":
        return (ANSWERS if "answers" in path else UPDATES) * slack, SMALL
    step, kind = (0, path[1]) if path[0] == "fading" else path[1:3]
    if kind == "terms":
        return TERMS[int(step)], SMALL
    return (GRADIENTS[int(step)] * slack if kind in ("gradients", "clipped") else BATCHES), SMALL


def leaves(value, path=()):
    """Yield path and value of everything in nested dicts and lists; a confusion stays whole."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from leaves(part, (*path, name))
    elif isinstance(value, list) and path[-1] != "confusion":
        for position, part in enumerate(value):
            yield from leaves(part, (*path, str(position)))
    else:
        yield path, value
