"""Reports: markdown pages and pictures, made from nothing but the tracking store."""

from reports.html import standalone
from reports.report import write
from reports.terminal import show

__all__ = ["show", "standalone", "write"]
