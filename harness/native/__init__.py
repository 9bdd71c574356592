"""The referee's compiled inner loops. Each has a form in numpy, for machines without a compiler, with the same bits."""
