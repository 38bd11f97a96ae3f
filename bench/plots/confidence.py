"""Confidence of ratios of measured times, many at once."""

import functools
import math


def student_probability(t, freedom):
    """Probability that a variable of Student's distribution lies in [-t, t]."""
    x = freedom / (freedom + t * t)
    return 1 - incomplete_beta(freedom / 2, 0.5, x)


def incomplete_beta(a, b, x):
    """The regularised incomplete beta function, by its continued fraction (Lentz's method)."""
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
                     + a * math.log(x) + b * math.log(1 - x))
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(b, a, 1 - x)
    tiny = 1e-300
    c, d = 1.0, 1 - (a + b) * x / (a + 1)
    d = 1 / (d if abs(d) > tiny else tiny)
    result = d
    for m in range(1, 300):
        for step in (m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
                     -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))):
            d = 1 + step * d
            d = 1 / (d if abs(d) > tiny else tiny)
            c = 1 + step / c
            c = c if abs(c) > tiny else tiny
            result *= d * c
        if abs(d * c - 1) < 1e-12:
            break
    return front * result / a


@functools.lru_cache(maxsize=None)
def student_quantile(confidence, freedom):
    """t such that [-t, t] holds a variable with this probability."""
    low, high = 0.0, 1.0
    while student_probability(high, freedom) < confidence and high < 1e9:
        high *= 2
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        if student_probability(middle, freedom) < confidence:
            low = middle
        else:
            high = middle
    return high


def digamma(x):
    """Derivative of the logarithm of the gamma function, for x > 0."""
    shift = 0.0
    while x < 6:
        shift -= 1 / x
        x += 1
    y = 1 / (x * x)
    return shift + math.log(x) - 0.5 / x - y * (1 / 12 - y * (1 / 120 - y / 252))


def trigamma(x):
    """Second derivative of the logarithm of the gamma function, for x > 0."""
    shift = 0.0
    while x < 6:
        shift += 1 / (x * x)
        x += 1
    y = 1 / (x * x)
    return shift + 1 / x + y / 2 + y / x * (1 / 6 - y * (1 / 30 - y / 42))


def trigamma_inverse(value):
    low, high = 1e-8, 1e8
    for _ in range(200):
        middle = math.sqrt(low * high)
        if trigamma(middle) > value:
            low = middle
        else:
            high = middle
    return low


def median(values):
    values = sorted(values)
    n = len(values)
    return (values[(n - 1) // 2] + values[n // 2]) / 2


FEW_ROWS = 20  # fewer say nothing about each other


def common_variance(variances, freedoms):
    """(freedom, variance) of the distribution that the rows' variances come from: the scaled inverse
    chi-square whose moments on the scale of logarithms they have (G. K. Smyth, Statistical
    Applications in Genetics and Molecular Biology 3 (2004), article 3). Freedom 0: nothing is known."""
    pairs = [(v, f) for v, f in zip(variances, freedoms) if v > 0 and f > 0]
    if len(pairs) < FEW_ROWS:
        return 0.0, 0.0
    e = [math.log(v) - digamma(f / 2) + math.log(f / 2) for v, f in pairs]
    mean = sum(e) / len(e)
    spread = sum((x - mean) ** 2 for x in e) / (len(e) - 1)
    spread -= sum(trigamma(f / 2) for _, f in pairs) / len(pairs)
    if spread <= 1e-6:
        return 1e6, math.exp(mean)
    freedom = 2 * trigamma_inverse(spread)
    return freedom, math.exp(mean + digamma(freedom / 2) - math.log(freedom / 2))


class Ratio:
    """How the time of B relates to that of A in one row."""

    def __init__(self, difference, error, freedom):
        self.difference = difference  # of the means of logarithms
        self.error = error            # standard error of it
        self.freedom = freedom

    @property
    def ratio(self):
        return math.exp(self.difference)

    def interval(self, confidence):
        half = min(student_quantile(confidence, self.freedom) * self.error, 50.0)
        return math.exp(self.difference - half), math.exp(self.difference + half)

    def probability_beyond(self, limit):
        """That chance alone brings a difference as far from 0 as this one, on either side, where the
        true one is at most the logarithm `limit`: the largest such probability."""
        beyond = abs(self.difference) - limit
        if beyond <= 0:
            return 1.0
        if self.error == 0:
            return 0.0
        other_side = abs(self.difference) + limit
        return 1 - (student_probability(beyond / self.error, self.freedom)
                    + student_probability(other_side / self.error, self.freedom)) / 2


def ratios(rows, control=None):
    """rows: (A, B), each a list with a time for every pass of the run. Returns a Ratio for each, None
    where a side has less than two passes.

    A pass counts once, whatever was repeated in it: repetitions of one pass share the machine's
    luck. The variance of a row is drawn to that of all rows as far as they are alike, since few
    passes know little of it. What is left is what two runs differ by beyond their passes: the errors
    are widened by as much as those of the rows `control` (a list of bool; None: of all) explain too
    little."""
    found, variances, freedoms = [], [], []
    for before, after in rows:
        a = [math.log(v) for v in before if v > 0]
        b = [math.log(v) for v in after if v > 0]
        if len(a) < 2 or len(b) < 2:
            found.append(None)
            continue
        mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
        freedom = len(a) + len(b) - 2
        variance = (sum((v - mean_a) ** 2 for v in a) + sum((v - mean_b) ** 2 for v in b)) / freedom
        found.append((mean_b - mean_a, variance, freedom, 1 / len(a) + 1 / len(b)))
        variances.append(variance)
        freedoms.append(freedom)
    freedom0, variance0 = common_variance(variances, freedoms)
    out = []
    for one in found:
        if one is None:
            out.append(None)
            continue
        difference, variance, freedom, parts = one
        all_freedom = freedom + freedom0
        variance = (freedom * variance + freedom0 * variance0) / all_freedom
        out.append(Ratio(difference, math.sqrt(variance * parts), all_freedom))
    told = [one for one, is_control in zip(out, control or [False] * len(out)) if is_control and one]
    if len(told) >= FEW_ROWS:
        factor = widening(told, (0.5, 0.99))
    else:  # a change may be at work in the outermost rows, but hardly in those of the middle
        factor = widening([one for one in out if one], (0.5,))
    for one in out:
        if one is not None:
            one.error *= factor
    return out


def widening(rows, parts):
    """By how much |difference / error| exceeds at these quantiles what chance brings; 1 at least."""
    scores = sorted(abs(one.difference) / one.error for one in rows if one.error > 0)
    if len(scores) < FEW_ROWS:
        return 1.0
    freedom = median([one.freedom for one in rows])
    return max([1.0] + [scores[int(part * len(scores))] / student_quantile(part, freedom)
                        for part in parts])


def discoveries(probabilities, rate):
    """Which of the probabilities are small enough that at most this part of those chosen are there by
    chance (Y. Benjamini and Y. Hochberg, Journal of the Royal Statistical Society B 57 (1995), 289).
    If nothing but chance is at work, any at all are chosen with this probability."""
    order = sorted(range(len(probabilities)), key=lambda i: probabilities[i])
    chosen = 0
    for rank, i in enumerate(order, 1):
        if probabilities[i] <= rate * rank / len(order):
            chosen = rank
    out = [False] * len(probabilities)
    for i in order[:chosen]:
        out[i] = True
    return out


def pass_medians(operation, name):
    return [median(one) for one in operation.get(name, []) if one]


class Row:
    """What is said of one operation in two runs; "unclear" without two passes on each side."""

    def __init__(self):
        self.verdict, self.clock = "unclear", "-"
        self.ratio = self.low = self.high = self.before = self.after = None


def compare_rows(pairs, confidence, threshold, control=None):
    """A Row for each pair of operations, as a result file has them. Judged is CPU time where both
    files have it. SLOWER and faster: by more than `threshold`, and so that at most 1 - confidence of
    those said to be either are so by chance. Rows of `control` are not said to be: no change made
    them so."""
    control = control or [False] * len(pairs)
    out = [Row() for _ in pairs]
    found = [None] * len(pairs)
    for clock, name in (("clock", "passes_ns_per_op"), ("cpu", "passes_cpu_ns_per_op")):
        times = [(pass_medians(a, name), pass_medians(b, name)) for a, b in pairs]
        for i, (one, (before, after)) in enumerate(zip(ratios(times, control), times)):
            if one is not None:
                found[i], out[i].clock = one, clock
                out[i].before, out[i].after = median(before), median(after)
    judged = [i for i, one in enumerate(found) if one is not None and not control[i]]
    beyond = discoveries([found[i].probability_beyond(math.log1p(threshold)) for i in judged],
                         1 - confidence)
    named = {i for i, is_beyond in zip(judged, beyond) if is_beyond}
    for i, (one, row) in enumerate(zip(found, out)):
        if one is None:
            continue
        row.ratio, (row.low, row.high) = one.ratio, one.interval(confidence)
        if control[i]:
            row.verdict = "baseline"
        elif i in named:
            row.verdict = "SLOWER" if one.difference > 0 else "faster"
        elif row.low >= 1 / (1 + threshold) and row.high <= 1 + threshold:
            row.verdict = "same"
    return out
