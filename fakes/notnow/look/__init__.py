"""The look of notnow in HTML: one stylesheet, and the templates that fill pages and reports."""
