"""Attacks in numbers, each beside a control that falls to it: ``make attack``."""
