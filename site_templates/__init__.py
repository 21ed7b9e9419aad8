"""The site's Jinja templates, style sheets and plain JavaScript files; a package so that they ship in the wheel."""
