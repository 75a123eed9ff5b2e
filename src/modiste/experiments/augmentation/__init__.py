"""Whether labelled synthetic images help a classifier: subsets, arms, and what their accuracies say."""
