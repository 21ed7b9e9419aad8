"""The annotation service: keeps people's notes on features in `interpretations.json` and serves the dashboard.

Stands alone: starlette, uvicorn, msgspec and the standard library. `keys`, `document` and `strict_json` need only
msgspec, so that the pipeline reads the file through them without loading a web server.
"""
