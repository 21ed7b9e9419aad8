"""The numerics: pure functions and small classes that know nothing of Dagster."""
