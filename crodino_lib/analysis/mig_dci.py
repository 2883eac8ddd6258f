"""Score a split as a whole from what probes read of each half: block forms of MIG and DCI.

Channel-wise MIG, DCI and SAP presume one code per channel. A half of a bottleneck has dozens of redundant channels, so
their gaps between the best two channels are about 0 by construction and mean nothing. Here the codes are the halves.
"""

import numpy as np
from scipy.stats import entropy


def block_mig(skills: np.ndarray) -> float:
    """Compute the mean gap between the best two codes of every factor.

    ``skills`` (J, F) are those of code j for factor k, in [0, 1] above chance; factors with a NaN do not count. 0 where
    both halves hold everything alike, 1 where each factor is in one half alone, and fully; NaN where no factor counts.

    Source: the block form of Chen et al., 2018, our reconstruction.
    """
    ordered = np.sort(_measured(skills), axis=0)
    return float((ordered[-1] - ordered[-2]).mean()) if ordered.size else np.nan


def block_dci(skills: np.ndarray) -> dict[str, float]:
    """Compute whether each half is about few factors (disentanglement), and each factor in one half (completeness).

    ``D_j = 1 - H_F(R_j. / sum)``, averaged with the codes' shares of all skill; ``C_k = 1 - H_J(R_.k / sum)``, averaged
    with the factors' shares; entropies to the base of their number of outcomes. Only completeness is about the split: a
    half may be about few factors because only few can be read at all. Arguments as ``block_mig``. Returns both, and
    ``informativeness``, the mean skill of each factor's best half; NaN where no code has any skill.

    Source: Eastwood and Williams, ICLR 2018, with probe skill as importance.
    """
    skills = _measured(skills)
    scores = {"disentanglement": _concentration(skills), "completeness": _concentration(skills.T)}
    return scores | {"informativeness": float(skills.max(axis=0).mean()) if skills.any() else np.nan}


def _concentration(importance: np.ndarray) -> float:
    """Compute 1 less the entropy of every row, rows weighted by their sums."""
    rows = importance[importance.any(axis=1)]
    if importance.shape[1] < 2 or not len(rows):
        return np.nan
    return float(np.average(1 - entropy(rows, base=importance.shape[1], axis=1), weights=rows.sum(axis=1)))


def _measured(skills: np.ndarray) -> np.ndarray:
    skills = np.asarray(skills, float)
    if skills.ndim != 2 or len(skills) < 2:
        raise ValueError(f"skills must be (codes, factors) of at least two codes, found shape {skills.shape}")
    return skills[:, ~np.isnan(skills).any(axis=0)]
