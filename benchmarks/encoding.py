#!/usr/bin/env python3
"""Measures how fast questions are encoded: one process, one order and four packed orders.

    python benchmarks/encoding.py --model FOLDER --csv train.csv

FOLDER holds a tokenizer and a config.json (no weights needed). Prints one line per figure.
"""
import argparse
import time

import numpy as np

from mcvqa.config import Config
from mcvqa.data.questions import read_questions
from mcvqa.model.load import load_encoder
from mcvqa.scoring.orders import option_orders

GRID = (1, 22, 30)  # a 4:3 photograph at 384 x 384 pixels, in patches


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--csv", required=True)
    args = parser.parse_args()
    encoder, _, _ = load_encoder(Config(model_id=args.model))
    questions = read_questions(args.csv).questions
    for orders in (1, 4):
        start = time.perf_counter()
        tokens = [len(encoder.encode(q, option_orders(len(q.choices), orders), GRID)) for q in questions]
        rate = len(questions) / (time.perf_counter() - start)
        print(f"{orders} orders: {rate:.0f} rows/s, {60 * rate:,.0f} rows/min; "
              f"tokens mean {np.mean(tokens):.1f}, 99 % {np.quantile(tokens, 0.99):.0f}, longest {max(tokens)}")


if __name__ == "__main__":
    main()
