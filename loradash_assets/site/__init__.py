"""Tables in, HTML out: the dashboard page, the reports and the original's export. Knows neither torch nor dagster."""
