"""The table of attained AUCs: ``python -m zoo.accuracy``. It needs scikit-learn for its logistic regression."""
