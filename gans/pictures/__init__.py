"""Pictures: grids, curves, panels, films, videos."""
