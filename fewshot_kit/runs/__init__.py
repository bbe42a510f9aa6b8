"""Run folders: files that survive a kill, and everything that makes an algorithm again."""
