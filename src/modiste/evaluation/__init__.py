"""The protocol: from anything that can be judged to a record with scores and baselines."""
