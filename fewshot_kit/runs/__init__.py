"""Run folders: they hold everything that is needed to rebuild an algorithm, in files that survive a kill."""
