"""What chance alone may do to a number: intervals, tests, and the correction for many of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import fmean, stdev

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr, stdtrit

from mmgraph_robust.errors import ConfigError, DataError

Array = npt.NDArray[np.float64]

#: Numbers of one array that are held at a time: 256 MiB.
_BLOCK = 2**25


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
    :math:`(1 + \#\{|d^* - d| \ge |d|\}) / (1 + R)`. Where there is none, all that draws can say is that it is at most
    :math:`1 / (1 + R)`. It is then the tail of Student's t with :math:`n - 1` degrees of freedom, normal for many
    users, beyond :math:`|d| / s^*` with the bootstrap standard error :math:`s^*` of :math:`d`, if that is smaller.

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
    """:func:`paired_bootstrap` of many differences of the same users, who are drawn alike for all of them.

    Users are drawn once for a block of differences, as many as keep both ``[num_users, block]`` and
    ``[resamples, block]`` within 256 MiB; three such arrays are held at the most, and a block is never less than one
    difference. Time grows with the number of users, draws and differences alike.

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
    for first in remaining:
        users = len(first)
        if users < 2:
            raise DataError(f"a bootstrap over users expects at least two of them (got {users})")
        width = max(1, _BLOCK // max(users, resamples))
        columns = np.stack([first, *islice(remaining, width - 1)], axis=1)
        tests += _tests(columns, resamples, confidence, seed)
    return tests


def _tests(columns: Array, resamples: int, confidence: float, seed: int) -> list[PairedTest]:
    """The tests of ``[num_users, num_columns]`` differences."""
    users, generator = len(columns), np.random.default_rng(seed)
    observed = columns.mean(axis=0)
    # What is equal but for rounding counts as equal.
    reach = np.abs(observed) - 1e-12 * np.abs(columns).max(axis=0)
    means = np.empty((resamples, columns.shape[1]))
    far = np.zeros(columns.shape[1])
    height = max(1, _BLOCK // (16 * max(users, columns.shape[1])))
    for start in range(0, resamples, height):
        times = np.empty((min(height, resamples - start), users))
        for row in times:
            row[:] = np.bincount(generator.integers(0, users, size=users), minlength=users)
        part = means[start : start + height]
        np.matmul(times, columns, out=part)
        part /= users
        far += (np.abs(part - observed) >= reach).sum(axis=0)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0, overwrite_input=True)
    p = np.where(far == 0, _tail(columns, observed, 1 / (1 + resamples)), (1 + far) / (1 + resamples))
    found = zip(observed.tolist(), low.tolist(), high.tolist(), p.tolist(), strict=True)
    return [PairedTest(*numbers, users) for numbers in found]


def _tail(columns: Array, observed: Array, most: float) -> Array:
    """What remains of Student's t beyond each observed mean, at most `most`, and never zero."""
    # With endless draws, this is the deviation of the drawn means.
    error = columns.std(axis=0) / math.sqrt(len(columns))
    # Where all users differ alike, nothing is known of others.
    sure = error > 1e-12 * np.abs(observed)
    tail = 2 * stdtr(len(columns) - 1, -np.abs(observed) / np.where(sure, error, 1.0))
    return np.where(sure, np.clip(tail, np.finfo(np.float64).tiny, most), most)


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
