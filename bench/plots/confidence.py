"""Confidence of a ratio of two measured times."""

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


def student_quantile(confidence, freedom):
    """t such that [-t, t] holds a variable with this probability."""
    low, high = 0.0, 1.0
    while student_probability(high, freedom) < confidence and high < 1e9:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        if student_probability(middle, freedom) < confidence:
            low = middle
        else:
            high = middle
    return high


def moments(values):
    """Mean and variance of the mean."""
    mean = sum(values) / len(values)
    spread = sum((v - mean) ** 2 for v in values) / (len(values) - 1)
    return mean, spread / len(values)


def ratio_interval(before, after, confidence):
    """(ratio, low, high) of after to before: Welch's test on logarithms, because times differ by
    factors. None when one side has less than two positive samples."""
    a = [math.log(v) for v in before if v > 0]
    b = [math.log(v) for v in after if v > 0]
    if len(a) < 2 or len(b) < 2:
        return None
    mean_a, var_a = moments(a)
    mean_b, var_b = moments(b)
    total = var_a + var_b
    ratio = math.exp(mean_b - mean_a)
    if total == 0:
        return ratio, ratio, ratio
    freedom = total ** 2 / (var_a ** 2 / (len(a) - 1) + var_b ** 2 / (len(b) - 1))
    half = student_quantile(confidence, freedom) * math.sqrt(total)
    half = min(half, 50.0)
    return ratio, ratio * math.exp(-half), ratio * math.exp(half)
