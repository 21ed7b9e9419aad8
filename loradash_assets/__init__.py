"""loradash: what a LoRA adapter reacts to, as a Dagster asset graph and a standalone dashboard."""
