"""Answers for people: figures, pictures and pages made from a run."""
