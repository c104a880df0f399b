"""What chance alone may do to a number: intervals, tests, and the correction for many of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import fmean, stdev

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from mmgraph_robust.errors import ConfigError, DataError

Array = npt.NDArray[np.float64]

#: Numbers of one array that are held at a time: 32 MiB.
_BLOCK = 2**22


@dataclass(frozen=True)
class PairedTest:
    """How a mean over users differs between two measurements of the same users.

    Args:
        difference: The second mean minus the first.
        low: Lower end of its confidence interval.
        high: Upper end.
        p: Two-sided p-value of no difference.
        users: Number of users.
    """

    difference: float
    low: float
    high: float
    p: float
    users: int


def half_width(std: float | None, count: int, confidence: float = 0.95) -> float | None:
    r"""Half the width of the confidence interval of a mean, :math:`t_{n - 1} \, s / \sqrt n` (Student).

    Args:
        std: Sample standard deviation :math:`s`; `None` where it is unknown.
        count: Number of values :math:`n`.
        confidence: How often such an interval holds the true mean.

    Returns:
        `None` for one value, which says nothing about its spread.

    Raises:
        ConfigError: If `confidence` is not between 0 and 1.
    """
    _check_confidence(confidence)
    if std is None or count < 2:
        return None
    return float(stdtrit(count - 1, (1 + confidence) / 2)) * std / math.sqrt(count)


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """The confidence interval of the mean of independent values, such as a metric over seeds; see :func:`half_width`.

    Args:
        values: The values.
        confidence: How often such an interval holds the true mean.

    Returns:
        Both ends; `None` for one value.

    Raises:
        ConfigError: If `confidence` is not between 0 and 1.
        DataError: If there are no values, or some are not finite.
    """
    numbers = _checked(values, "values")
    half = half_width(stdev(numbers.tolist()) if len(numbers) > 1 else None, len(numbers), confidence)
    mean = fmean(numbers.tolist())
    return None if half is None else (mean - half, mean + half)


def paired_bootstrap(
    a: npt.ArrayLike, b: npt.ArrayLike, *, resamples: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> PairedTest:
    r"""What drawing other users of the same kind would do to the difference of two means.

    Users are drawn with replacement, each with both of her values: :math:`d^*` is the mean of :math:`b - a` over one
    such draw, :math:`d` that over the users themselves. The interval is that of the percentiles of :math:`d^*`; the
    p-value counts the draws that are as far from :math:`d` as :math:`d` is from zero,
    :math:`(1 + \#\{|d^* - d| \ge |d|\}) / (1 + R)`, so it is never zero.

    Args:
        a: ``[num_users]`` a value per user, averaged over seeds where there are several.
        b: ``[num_users]`` the same users' other values, in the same order.
        resamples: Number of draws :math:`R`.
        confidence: How often such an interval holds the true difference.
        seed: Seed of the draws.

    Raises:
        ConfigError: If an option is out of range.
        DataError: If lengths differ, there are fewer than two users, or values are not finite.
    """
    first, second = _checked(a, "a"), _checked(b, "b")
    if len(first) != len(second):
        raise DataError(f"a paired test expects the same users on both sides (got {len(first)} and {len(second)})")
    return bootstrap_means([second - first], resamples=resamples, confidence=confidence, seed=seed)[0]


def bootstrap_means(
    differences: Iterable[Array], *, resamples: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> list[PairedTest]:
    """:func:`paired_bootstrap` of many differences of the same users, who are drawn once for all of them.

    Args:
        differences: ``[num_users]`` each, asked for a block at a time.
        resamples: See :func:`paired_bootstrap`.
        confidence: See :func:`paired_bootstrap`.
        seed: See :func:`paired_bootstrap`.
    """
    _check_confidence(confidence)
    if resamples < 1:
        raise ConfigError(f"a bootstrap expects resamples >= 1 (got {resamples})")
    tests: list[PairedTest] = []
    remaining = iter(differences)
    while block := list(islice(remaining, max(1, _BLOCK // resamples))):
        columns = np.stack(block, axis=1)
        users = len(columns)
        if users < 2:
            raise DataError(f"a bootstrap over users expects at least two of them (got {users})")
        observed = columns.mean(axis=0)
        means = _resampled_means(columns, resamples, seed)
        # What is equal but for rounding counts as equal.
        rounding = 1e-12 * np.abs(columns).max(axis=0)
        far = np.abs(means - observed) >= np.abs(observed) - rounding
        p = (1 + far.sum(axis=0)) / (1 + resamples)
        low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
        found = zip(observed.tolist(), low.tolist(), high.tolist(), p.tolist(), strict=True)
        tests += [PairedTest(*numbers, users) for numbers in found]
    return tests


def _resampled_means(columns: Array, resamples: int, seed: int) -> Array:
    """``[resamples, num_columns]`` means over users that are drawn with replacement."""
    users, generator = len(columns), np.random.default_rng(seed)
    means = np.empty((resamples, columns.shape[1]))
    height = max(1, _BLOCK // users)
    for start in range(0, resamples, height):
        rows = min(height, resamples - start)
        drawn = generator.integers(0, users, size=(rows, users))
        drawn += users * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * users).reshape(rows, users)
        means[start : start + rows] = times.astype(np.float64) @ columns / users
    return means


def holm(p_values: Sequence[float]) -> list[float]:
    r"""Corrects p-values for their number, by "A Simple Sequentially Rejective Multiple Test Procedure" (Holm, 1979).

    The :math:`k`-th smallest of :math:`m` becomes :math:`\max_{j \le k} \min(1, (m - j + 1) p_{(j)})`: whatever is then
    called significant at 5 % holds no false alarm at all in 95 % of such families, however the tests depend on each
    other.

    Args:
        p_values: The p-values of one family.

    Returns:
        The corrected ones, in the same order.

    Raises:
        DataError: If one is not between 0 and 1.
    """
    for p in p_values:
        if not 0 <= p <= 1:
            raise DataError(f"'holm' expects p-values between 0 and 1 (got {p})")
    corrected, largest = [0.0] * len(p_values), 0.0
    for done, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - done) * p_values[index]))
        corrected[index] = largest
    return corrected


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ConfigError(f"an interval expects 0 < confidence < 1 (got {confidence})")


def _checked(values: npt.ArrayLike, name: str) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array):
        raise DataError(f"'{name}' expects a list of numbers that is not empty (got shape {list(array.shape)})")
    if not np.isfinite(array).all():
        raise DataError(f"'{name}' expects finite numbers (got {int((~np.isfinite(array)).sum())} that are not)")
    return array
