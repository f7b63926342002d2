"""Scales temperatures: one per model, so that its probabilities can be trusted and averaged with others.

Guo et al. 2017, "On Calibration of Modern Neural Networks": dividing the logits by one number, fitted on unseen rows, removes
most of a network's overconfidence and never changes its prediction.
"""
import numpy as np
from scipy.optimize import minimize_scalar

from mcvqa.scoring.scores import log_softmax

TEMPERATURE_RANGE = (0.05, 20.0)
FEWEST_ROWS = 20  # with fewer rows a fitted temperature is noise, and 1 is better
RULED_OUT = -30.0  # replaces log 0 if the answer has no probability: a large but finite loss


def fit_temperature(logprobs: np.ndarray, answers: np.ndarray) -> float:
    """Fit the temperature that maximises the mean log-probability of the answers.

    Args:
        logprobs: (N, C); -inf: the row has no such choice.
        answers: (N,) choice indices; negative ones (unknown) are ignored.

    Returns:
        The temperature; 1.0 with fewer than 20 known answers.
    """
    known = np.flatnonzero(np.asarray(answers) >= 0)
    if len(known) < FEWEST_ROWS:
        return 1.0
    chosen = np.asarray(answers)[known]
    logits = logprobs[known].astype(np.float64)  # (N, C)
    rows = np.arange(len(known))
    logits[rows, chosen] = np.maximum(logits[rows, chosen], RULED_OUT)

    def loss(log_temperature: float) -> float:
        return -float(log_softmax(logits / np.exp(log_temperature))[rows, chosen].mean())

    # the loss is convex in 1/T, so it has one minimum in log T as well
    return float(np.exp(minimize_scalar(loss, bounds=np.log(TEMPERATURE_RANGE), method="bounded").x))
