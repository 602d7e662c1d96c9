"""What people look at: grids, curves, panels, films, videos."""
