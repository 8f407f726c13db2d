"""How a run is shown: timeline, lanes, report and page."""
