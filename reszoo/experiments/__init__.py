"""Experiments: residual networks beside plain twins and controls under equal budgets."""
